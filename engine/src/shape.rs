//! Shapes, strides and the arithmetic of views.

use std::{fmt, ops::Deref};

use crate::{Error, Result};

/// The largest number of dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's dimensions, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// Refuses more than [`MAX_RANK`] dimensions and sizes whose product overflows.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > MAX_RANK {
            return Err(Error::shape("shape", format!("{dims:?} has {} dimensions, at most {MAX_RANK}", dims.len())));
        }
        // Zero sizes do not excuse the others: a later reshape could drop the zero.
        dims.iter()
            .filter(|&&d| d != 0)
            .try_fold(8usize, |n, &d| n.checked_mul(d).filter(|&n| n <= isize::MAX as usize))
            .ok_or_else(|| Error::Overflow { what: format!("a tensor of shape {dims:?}") })?;
        let mut shape = Shape { dims: [0; MAX_RANK], rank: dims.len() };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// The number of elements; 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> [usize; MAX_RANK] {
        let mut strides = [0; MAX_RANK];
        let mut step = 1;
        for i in (0..self.rank).rev() {
            strides[i] = step;
            step *= self.dims[i].max(1);
        }
        strides
    }

    /// The shape with `tail` in place of the last `n` dimensions.
    pub fn with_tail(&self, n: usize, tail: &[usize]) -> Result<Shape> {
        let keep = self.rank.saturating_sub(n);
        Shape::new(&[&self[..keep], tail].concat())
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Where the elements of a view lie in its buffer: element `i` is at `offset + Σ i[d]·strides[d]`, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Layout {
    /// Row-major from the start of the buffer.
    pub fn contiguous(shape: Shape) -> Self {
        Layout { shape, strides: shape.strides(), offset: 0 }
    }

    /// The sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The distances between neighbours along each dimension, in elements; 0 where broadcast.
    pub fn strides(&self) -> &[usize] {
        &self.strides[..self.shape.rank]
    }

    /// The position of element zero, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Whether the elements lie in row-major order without gaps (wherever they start).
    pub fn is_contiguous(&self) -> bool {
        let dense = self.shape.strides();
        self.shape.elements() == 0 || (0..self.shape.rank).all(|d| self.shape[d] == 1 || self.strides[d] == dense[d])
    }

    /// One past the last element that is reached, counted from the start of the buffer.
    pub fn end(&self) -> usize {
        if self.shape.elements() == 0 {
            return self.offset;
        }
        let last: usize = self.shape.iter().zip(self.strides()).map(|(&n, &s)| (n - 1) * s).sum();
        self.offset + last + 1
    }

    /// Dimension `i` of the result is dimension `order[i]` of `self`.
    pub fn permute(&self, order: &[usize]) -> Result<Layout> {
        let rank = self.shape.rank;
        let mut seen = [false; MAX_RANK];
        let valid = order.len() == rank && order.iter().all(|&d| d < rank && !std::mem::replace(&mut seen[d], true));
        if !valid {
            return Err(Error::shape("permute", format!("{order:?} is not an order of the {rank} dimensions of {}", self.shape)));
        }
        let mut out = *self;
        for (i, &d) in order.iter().enumerate() {
            out.shape.dims[i] = self.shape.dims[d];
            out.strides[i] = self.strides[d];
        }
        Ok(out)
    }

    /// Elements `start..start + len` of dimension `dim`.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Layout> {
        let size = self.shape.get(dim).copied();
        if size.is_none_or(|size| start.checked_add(len).is_none_or(|end| end > size)) {
            return Err(Error::shape("narrow", format!("{start}..{start}+{len} of dimension {dim} of {}", self.shape)));
        }
        let mut out = *self;
        out.shape.dims[dim] = len;
        // An empty view reaches nothing, so its offset stays where the buffer is.
        if out.shape.elements() > 0 {
            out.offset += start * self.strides[dim];
        }
        Ok(out)
    }

    /// Repeats dimensions of size 1, and new leading dimensions, with stride 0.
    pub fn broadcast_to(&self, target: &[usize]) -> Result<Layout> {
        let shape = Shape::new(target)?;
        let misfit = || Error::shape("broadcast", format!("{} does not broadcast to {shape}", self.shape));
        let lead = shape.rank.checked_sub(self.shape.rank).ok_or_else(misfit)?;
        let mut out = Layout { shape, strides: [0; MAX_RANK], offset: self.offset };
        for (d, &size) in self.shape.iter().enumerate() {
            match size {
                _ if size == shape[lead + d] => out.strides[lead + d] = self.strides[d],
                1 => {}
                _ => return Err(misfit()),
            }
        }
        Ok(out)
    }

    /// The same elements in the same order under another shape, without moving any. An error where that needs a copy.
    pub fn reshape(&self, target: &[usize]) -> Result<Layout> {
        let shape = Shape::new(target)?;
        if shape.elements() != self.shape.elements() {
            let message = format!("{} has {} elements, {shape} has {}", self.shape, self.shape.elements(), shape.elements());
            return Err(Error::shape("reshape", message));
        }
        if self.is_contiguous() {
            return Ok(Layout { shape, strides: shape.strides(), offset: self.offset });
        }
        self.regroup(shape).ok_or_else(|| {
            let message = format!("{} with strides {:?} as {shape} needs a copy (contiguous)", self.shape, self.strides());
            Error::shape("reshape", message)
        })
    }

    /// Matches runs of dimensions with equal products; a run of several old dimensions must be dense in itself.
    fn regroup(&self, shape: Shape) -> Option<Layout> {
        let mut out = Layout { shape, strides: [0; MAX_RANK], offset: self.offset };
        let old: Vec<(usize, usize)> =
            self.shape.iter().copied().zip(self.strides().iter().copied()).filter(|&(n, _)| n != 1).collect();
        let (mut i, mut j) = (0, 0);
        while i < old.len() {
            let first = i;
            let (mut a, mut b) = (old[i].0, 1);
            let mut last = j;
            loop {
                if b < a {
                    b *= *shape.get(last)?;
                    last += 1;
                } else if a < b {
                    i += 1;
                    let (size, stride) = *old.get(i)?;
                    if old[i - 1].1 != size * stride {
                        return None;
                    }
                    a *= size;
                } else {
                    break;
                }
            }
            let mut step = old[i].1;
            for d in (j..last).rev() {
                out.strides[d] = step;
                step *= shape[d];
            }
            debug_assert!(first <= i);
            i += 1;
            j = last;
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dims: &[usize]) -> Layout {
        Layout::contiguous(Shape::new(dims).unwrap())
    }

    #[test]
    fn overflow_is_an_error_even_beside_a_zero() {
        assert!(Shape::new(&[usize::MAX, 2]).is_err());
        assert!(Shape::new(&[0, usize::MAX / 2, 4]).is_err());
        assert!(Shape::new(&[1; 9]).is_err());
    }

    #[test]
    fn views_reach_the_elements_they_say() {
        let x = layout(&[2, 3, 4]);
        let y = x.permute(&[2, 0, 1]).unwrap();
        assert_eq!((&y.shape()[..], y.strides()), (&[4, 2, 3][..], &[1, 12, 4][..]));
        let z = y.narrow(0, 1, 2).unwrap();
        assert_eq!((z.offset(), z.end()), (1, 1 + 1 + 12 + 8 + 1));
        assert!(y.narrow(0, 3, 2).is_err());
        assert!(x.permute(&[0, 0, 1]).is_err());
    }

    #[test]
    fn reshape_splits_and_joins_dense_runs_and_refuses_the_rest() {
        let x = layout(&[2, 3, 4]).permute(&[1, 0, 2]).unwrap();
        let split = x.reshape(&[3, 2, 2, 2]).unwrap();
        assert_eq!(split.strides(), &[4, 12, 2, 1]);
        assert!(x.reshape(&[6, 4]).is_err(), "3 and 2 are not neighbours in memory");
        let tail = layout(&[5, 3, 4]).narrow(0, 1, 2).unwrap().reshape(&[2, 12]).unwrap();
        assert_eq!((tail.offset(), tail.strides()), (12, &[12, 1][..]));
        let skipped = layout(&[2, 5, 6]).narrow(1, 1, 4).unwrap().reshape(&[2, 2, 2, 6]).unwrap();
        assert_eq!(skipped.strides(), &[30, 12, 6, 1]);
        assert!(layout(&[4]).reshape(&[5]).is_err());
    }

    #[test]
    fn broadcast_uses_stride_zero() {
        let x = layout(&[3, 1]).broadcast_to(&[2, 3, 4]).unwrap();
        assert_eq!(x.strides(), &[0, 1, 0]);
        assert!(layout(&[3]).broadcast_to(&[4]).is_err());
        assert!(layout(&[2, 3]).broadcast_to(&[3]).is_err());
    }
}
