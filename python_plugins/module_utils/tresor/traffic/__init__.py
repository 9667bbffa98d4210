"""What share of the traffic, and of the GPU time, went to smaller models."""
