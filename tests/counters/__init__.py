"""Small kernels whose hardware counters are recorded, and the script that profiles them."""
