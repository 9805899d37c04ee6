//! Fast multi-scale image generation in the wavelet domain: train, sample, look.
