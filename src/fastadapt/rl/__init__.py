"""Reinforcement learning: families of environments, policies, and the steps that train them."""

from fastadapt.rl.environments import family as family
