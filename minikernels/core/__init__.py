"""What every layer shares: errors, shapes in letters, softmax numerics, traffic counters and the oracle."""
