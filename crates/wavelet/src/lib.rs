//! Discrete wavelet transforms on candle tensors: every PyWavelets family and boundary mode, with gradients.
