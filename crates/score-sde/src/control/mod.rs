//! Controlled generation (Song et al. 2021, arXiv 2011.13456, section 5 and appendix I): [`inpaint`] and [`colourise`]
//! condition on a part of the picture that is known, [`interpolate`] walks between two pictures in the latent space of the
//! probability flow.

mod colour;
mod inpaint;
mod interpolate;

pub use colour::{colourise, from_colour_basis, to_colour_basis};
pub use inpaint::inpaint;
pub use interpolate::{interpolate, slerp};

#[cfg(test)]
mod tests;
