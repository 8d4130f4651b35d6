"""Reinforcement learning: families of environments, policies, and the steps that train them."""
