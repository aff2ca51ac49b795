"""Training, in PyTorch; nothing outside this folder needs it."""
