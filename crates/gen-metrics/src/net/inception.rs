//! The Inception-v3 of FID.

use super::layers::{Conv, Pad, Shape};
use super::pool::Pool;
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::VarBuilder;

/// Numbers in a feature vector.
pub const DIM: usize = 2048;
/// Height and width of its pictures.
pub const SIZE: usize = 299;

/// Inception-v3 (Szegedy et al. 2015, arXiv 1512.00567) as FID uses it: TensorFlow's `inception-2015-12-05`, which pytorch-fid
/// has ported. Up to the last mean over positions (pool 3): pictures (N, 3, 299, 299) in `[-1, 1]` to (N, 2048).
///
/// It differs from torchvision's in its pools, as the port says: means leave out the border's zeros, and the last block takes
/// maxima instead of means. Tensor names are pytorch-fid's (`Conv2d_1a_3x3.conv.weight`, ...).
#[derive(Debug, Clone)]
pub struct InceptionV3 {
    stem: Vec<Conv>,
    /// To be run after the stem's second pool.
    blocks: Vec<Block>,
}

/// Branches whose results are laid one after another.
#[derive(Debug, Clone)]
struct Block {
    branches: Vec<Branch>,
}

#[derive(Debug, Clone)]
enum Branch {
    /// One convolution after another.
    Chain(Vec<Conv>),
    /// A chain, then two convolutions of its result side by side.
    Fork(Vec<Conv>, Conv, Conv),
    /// A pool of stride 1, then a convolution.
    Pooled(Pool, Conv),
    /// Maxima at stride 2.
    Shrunk,
}

/// Builds layers below one name.
struct Builder<'a>(VarBuilder<'a>);

impl Builder<'_> {
    fn conv(&self, name: &str, shape: Shape) -> Result<Conv> {
        let vb = self.0.pp(name);
        Conv::normalised(shape, 1e-3, Some(f32::INFINITY), vb.pp("conv"), vb.pp("bn"))
    }

    /// A convolution that keeps the size.
    fn same(&self, name: &str, ci: usize, co: usize, kernel: [usize; 2]) -> Result<Conv> {
        let pad = Pad::By(kernel[0] / 2, kernel[1] / 2);
        self.conv(name, Shape::new(ci, co, kernel).pad(pad))
    }

    /// 3 x 3 at stride 2, which halves the size.
    fn halving(&self, name: &str, ci: usize, co: usize) -> Result<Conv> {
        self.conv(name, Shape::new(ci, co, [3, 3]).stride(2))
    }

    /// Convolutions (name, channels out, kernel), each of what the one before gives.
    fn chain(&self, ci: usize, convs: &[(&str, usize, [usize; 2])]) -> Result<Vec<Conv>> {
        let mut ci = ci;
        convs
            .iter()
            .map(|&(name, co, kernel)| self.same(name, std::mem::replace(&mut ci, co), co, kernel))
            .collect()
    }

    fn a(&self, ci: usize, pooled: usize) -> Result<Block> {
        Block::new([
            Branch::Chain(self.chain(ci, &[("branch1x1", 64, [1, 1])])?),
            Branch::Chain(self.chain(
                ci,
                &[("branch5x5_1", 48, [1, 1]), ("branch5x5_2", 64, [5, 5])],
            )?),
            Branch::Chain(self.chain(
                ci,
                &[
                    ("branch3x3dbl_1", 64, [1, 1]),
                    ("branch3x3dbl_2", 96, [3, 3]),
                    ("branch3x3dbl_3", 96, [3, 3]),
                ],
            )?),
            Branch::Pooled(Pool::Mean, self.same("branch_pool", ci, pooled, [1, 1])?),
        ])
    }

    fn b(&self, ci: usize) -> Result<Block> {
        let mut double = self.chain(
            ci,
            &[
                ("branch3x3dbl_1", 64, [1, 1]),
                ("branch3x3dbl_2", 96, [3, 3]),
            ],
        )?;
        double.push(self.halving("branch3x3dbl_3", 96, 96)?);
        Block::new([
            Branch::Chain(vec![self.halving("branch3x3", ci, 384)?]),
            Branch::Chain(double),
            Branch::Shrunk,
        ])
    }

    fn c(&self, ci: usize, inner: usize) -> Result<Block> {
        Block::new([
            Branch::Chain(self.chain(ci, &[("branch1x1", 192, [1, 1])])?),
            Branch::Chain(self.chain(
                ci,
                &[
                    ("branch7x7_1", inner, [1, 1]),
                    ("branch7x7_2", inner, [1, 7]),
                    ("branch7x7_3", 192, [7, 1]),
                ],
            )?),
            Branch::Chain(self.chain(
                ci,
                &[
                    ("branch7x7dbl_1", inner, [1, 1]),
                    ("branch7x7dbl_2", inner, [7, 1]),
                    ("branch7x7dbl_3", inner, [1, 7]),
                    ("branch7x7dbl_4", inner, [7, 1]),
                    ("branch7x7dbl_5", 192, [1, 7]),
                ],
            )?),
            Branch::Pooled(Pool::Mean, self.same("branch_pool", ci, 192, [1, 1])?),
        ])
    }

    fn d(&self, ci: usize) -> Result<Block> {
        let mut three = self.chain(ci, &[("branch3x3_1", 192, [1, 1])])?;
        three.push(self.halving("branch3x3_2", 192, 320)?);
        let mut seven = self.chain(
            ci,
            &[
                ("branch7x7x3_1", 192, [1, 1]),
                ("branch7x7x3_2", 192, [1, 7]),
                ("branch7x7x3_3", 192, [7, 1]),
            ],
        )?;
        seven.push(self.halving("branch7x7x3_4", 192, 192)?);
        Block::new([Branch::Chain(three), Branch::Chain(seven), Branch::Shrunk])
    }

    fn e(&self, ci: usize, pool: Pool) -> Result<Block> {
        let fork = |chain, a, b| -> Result<Branch> {
            Ok(Branch::Fork(
                chain,
                self.same(a, 384, 384, [1, 3])?,
                self.same(b, 384, 384, [3, 1])?,
            ))
        };
        Block::new([
            Branch::Chain(self.chain(ci, &[("branch1x1", 320, [1, 1])])?),
            fork(
                self.chain(ci, &[("branch3x3_1", 384, [1, 1])])?,
                "branch3x3_2a",
                "branch3x3_2b",
            )?,
            fork(
                self.chain(
                    ci,
                    &[
                        ("branch3x3dbl_1", 448, [1, 1]),
                        ("branch3x3dbl_2", 384, [3, 3]),
                    ],
                )?,
                "branch3x3dbl_3a",
                "branch3x3dbl_3b",
            )?,
            Branch::Pooled(pool, self.same("branch_pool", ci, 192, [1, 1])?),
        ])
    }
}

impl InceptionV3 {
    /// Reads the network. The classifier `fc` is not needed.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let top = Builder(vb.clone());
        let below = |name: &str| Builder(vb.pp(name));
        let valid = |ci, co, kernel| Shape::new(ci, co, [kernel, kernel]);
        Ok(Self {
            stem: vec![
                top.conv("Conv2d_1a_3x3", valid(3, 32, 3).stride(2))?,
                top.conv("Conv2d_2a_3x3", valid(32, 32, 3))?,
                top.same("Conv2d_2b_3x3", 32, 64, [3, 3])?,
                top.conv("Conv2d_3b_1x1", valid(64, 80, 1))?,
                top.conv("Conv2d_4a_3x3", valid(80, 192, 3))?,
            ],
            blocks: vec![
                below("Mixed_5b").a(192, 32)?,
                below("Mixed_5c").a(256, 64)?,
                below("Mixed_5d").a(288, 64)?,
                below("Mixed_6a").b(288)?,
                below("Mixed_6b").c(768, 128)?,
                below("Mixed_6c").c(768, 160)?,
                below("Mixed_6d").c(768, 160)?,
                below("Mixed_6e").c(768, 192)?,
                below("Mixed_7a").d(768)?,
                below("Mixed_7b").e(1280, Pool::Mean)?,
                below("Mixed_7c").e(2048, Pool::Max)?,
            ],
        })
    }
}

impl Block {
    fn new<const N: usize>(branches: [Branch; N]) -> Result<Self> {
        Ok(Self {
            branches: branches.into(),
        })
    }
}

fn run(chain: &[Conv], x: &Tensor) -> Result<Tensor> {
    chain.iter().try_fold(x.clone(), |x, conv| conv.forward(&x))
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.branches.len() + 2);
        for branch in &self.branches {
            match branch {
                Branch::Chain(chain) => parts.push(run(chain, x)?),
                Branch::Fork(chain, a, b) => {
                    let x = run(chain, x)?;
                    parts.extend([a.forward(&x)?, b.forward(&x)?]);
                }
                Branch::Pooled(pool, conv) => parts.push(conv.forward(&pool.of3(x, 1, 1)?)?),
                Branch::Shrunk => parts.push(Pool::Max.of3(x, 2, 0)?),
            }
        }
        Tensor::cat(&parts, 1)
    }
}

impl Module for InceptionV3 {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, c, h, w) = x.dims4()?;
        // 75 is what survives all that halves a picture.
        if c != 3 || h < 75 || w < 75 {
            bail!(
                "Inception-v3: expected (N, 3, {SIZE}, {SIZE}), got {:?}",
                x.shape()
            )
        }
        let x = run(&self.stem[..3], x)?;
        let x = run(&self.stem[3..], &Pool::Max.of3(&x, 2, 0)?)?;
        let x = Pool::Max.of3(&x, 2, 0)?;
        let x = self.blocks.iter().try_fold(x, |x, b| b.forward(&x))?;
        x.flatten_from(2)?.mean(2)
    }
}
