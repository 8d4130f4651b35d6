"""What tasks and meta-batches are made of: trees of tensors, their shapes, and streams of random numbers."""
