"""Images with classes: Omniglot, mini-ImageNet and folders; `images` is the only door for untrusted bytes."""
