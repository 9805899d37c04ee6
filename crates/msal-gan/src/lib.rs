//! Multi-scale adversarial generation of wavelet details: generators, discriminators, losses.
