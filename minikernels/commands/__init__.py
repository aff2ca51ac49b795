"""One file a command: its arguments, and what it prints. What it measures stands in `minikernels.bench`."""
