//! Neural-network operators and layers with right gradients and fast CPU paths, on candle tensors.
