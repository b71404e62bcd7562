//! One named weight: its place in the whole tensor, its value while it is here, and its fp32 gradient where it is trained.

use safetensors::Dtype as FileType;
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::placement::Slice;

/// Element type of the base weights and of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// For exact comparisons.
    Fp32,
    /// For training and serving; sums inside products are fp32.
    Bf16,
}

impl Dtype {
    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// A tensor as it stands in a file: element type, shape, little-endian bytes.
pub type FileTensor = (FileType, Vec<usize>, Vec<u8>);

/// Turns a file's bytes into a tensor of `kind` and checks the shape against what is expected.
///
/// # Errors
/// Another shape, or an element type that is no floating-point number we read.
pub fn from_file(name: &str, (dtype, shape, bytes): &FileTensor, expected: &[i64], kind: Kind) -> Result<Tensor, ModelError> {
    let found: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    if found != expected {
        return Err(ModelError::Shape { name: name.to_string(), found, expected: expected.to_vec() });
    }
    let stored = match dtype {
        FileType::F32 => Kind::Float,
        FileType::F16 => Kind::Half,
        FileType::BF16 => Kind::BFloat16,
        other => return Err(ModelError::ElementType { name: name.to_string(), found: format!("{other:?}") }),
    };
    Ok(Tensor::f_from_data_size(bytes, &found, stored)?.to_kind(kind))
}

/// Where a weight's first value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Origin {
    /// The base model's file.
    File,
    /// Drawn uniformly from ± this bound, a pure function of the run's seed and the weight's name ([`crate::lora::uniform`]).
    Uniform(f64),
    /// Zero.
    Zero,
}

/// A named weight.
#[derive(Debug)]
pub struct Weight {
    name: String,
    slice: Slice,
    origin: Origin,
    trained: bool,
    /// An empty tensor while the value is elsewhere.
    value: Tensor,
    gradient: Option<Tensor>,
}

impl Weight {
    /// A weight whose value is not here yet.
    pub(crate) fn absent(name: impl Into<String>, slice: Slice, origin: Origin) -> Self {
        Self { name: name.into(), slice, origin, trained: false, value: nothing(), gradient: None }
    }

    /// A whole weight that is not trained.
    pub fn frozen(name: impl Into<String>, value: Tensor) -> Self {
        let slice = Slice::whole(&value.size());
        Self { value, ..Self::absent(name, slice, Origin::File) }
    }

    /// The name in Hugging Face's (for LoRA: PEFT's) layout.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which slice of the whole tensor this is.
    pub fn slice(&self) -> &Slice {
        &self.slice
    }

    /// Where its first value comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Shape of what is held here.
    pub fn shape(&self) -> Vec<i64> {
        self.slice.shape()
    }

    /// What products use, in the network's dtype.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Brings the value, of the shape of [`Weight::shape`].
    ///
    /// # Errors
    /// Another shape.
    pub fn set_value(&mut self, value: Tensor) -> Result<(), ModelError> {
        let (found, expected) = (value.size(), self.shape());
        if found != expected {
            return Err(ModelError::Shape { name: self.name.clone(), found, expected });
        }
        self.value = value;
        Ok(())
    }

    /// Lets the value go; it must be brought again before the next use.
    pub fn release(&mut self) {
        self.value = nothing();
    }

    /// Whether it is trained.
    pub fn is_trained(&self) -> bool {
        self.trained
    }

    pub(crate) fn mark_trained(&mut self) {
        self.trained = true;
    }

    /// The gradient, fp32, where there is one now.
    pub fn gradient(&self) -> Option<&Tensor> {
        self.gradient.as_ref()
    }

    /// The gradient to add to, where there is one now.
    pub fn gradient_mut(&mut self) -> Option<&mut Tensor> {
        self.gradient.as_mut()
    }

    /// Gives backwards a tensor (fp32, of the shape of [`Weight::shape`]) to add this weight's gradient to.
    ///
    /// # Errors
    /// Another shape.
    pub fn set_gradient(&mut self, gradient: Tensor) -> Result<(), ModelError> {
        let (found, expected) = (gradient.size(), self.shape());
        if found != expected {
            return Err(ModelError::Shape { name: self.name.clone(), found, expected });
        }
        self.gradient = Some(gradient);
        Ok(())
    }

    /// Takes the gradient away.
    pub fn take_gradient(&mut self) -> Option<Tensor> {
        self.gradient.take()
    }

    /// Adds `a · b` to the gradient, if there is one; the product is made only then.
    pub(crate) fn accumulate(&mut self, a: &Tensor, b: &Tensor) {
        if let Some(gradient) = &mut self.gradient {
            if a.kind() == Kind::Float {
                let _ = gradient.addmm_(a, b);
            } else {
                let _ = gradient.g_add_(&a.matmul(b));
            }
        }
    }

    /// The same weight for another network that does not train it. A frozen value is shared; one that is trained is copied, because its
    /// memory changes at every step.
    pub(crate) fn share(&self) -> Self {
        let value = if self.trained { self.value.copy() } else { self.value.shallow_clone() };
        Self { value, ..Self::absent(self.name.clone(), self.slice.clone(), self.origin) }
    }
}

fn nothing() -> Tensor {
    Tensor::empty([0], (Kind::Float, Device::Cpu))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_shape_than_the_slice_is_refused() {
        let slice = Slice { full: vec![4, 6], dim: 1, start: 3, length: 3 };
        let mut weight = Weight::absent("w", slice, Origin::Zero);
        assert_eq!(weight.shape(), [4, 3]);
        let error = weight.set_value(Tensor::zeros([4, 6], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert_eq!(error, "tensor w has shape [4, 6], expected [4, 3]");
        weight.set_value(Tensor::zeros([4, 3], (Kind::Float, Device::Cpu))).unwrap();
        weight.release();
        assert_eq!(weight.value().numel(), 0);
    }
}
