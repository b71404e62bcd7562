//! One named weight: the value that products use and, where it is trained, its fp32 master copy and gradient.

use safetensors::Dtype as FileType;
use tch::{Kind, Tensor};

use crate::{ModelError, raw};

/// Element type of the base weights and of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// For exact comparisons.
    Fp32,
    /// For training and serving; sums inside products are fp32.
    Bf16,
}

impl Dtype {
    pub(crate) fn kind(self) -> Kind {
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

/// A named weight.
#[derive(Debug)]
pub struct Weight {
    name: String,
    value: Tensor,
    trained: Option<Trained>,
}

#[derive(Debug)]
struct Trained {
    master: Tensor,
    gradient: Tensor,
}

impl Weight {
    /// A weight that is not trained.
    pub fn frozen(name: impl Into<String>, value: Tensor) -> Self {
        Self { name: name.into(), value, trained: None }
    }

    /// A weight that is trained, from its fp32 master copy; the value is rounded from it.
    pub(crate) fn trained(name: impl Into<String>, master: Tensor, dtype: Dtype) -> Self {
        // In fp32 this is the master copy itself: `to_kind` gives another handle on the same memory.
        let value = master.to_kind(dtype.kind());
        Self { name: name.into(), value, trained: Some(Trained { gradient: master.zeros_like(), master }) }
    }

    /// Begins to train it: from here on there are an fp32 master copy and an fp32 gradient, at zero.
    pub fn train(&mut self) {
        let master = self.value.to_kind(Kind::Float).copy();
        if self.value.kind() == Kind::Float {
            self.value = master.shallow_clone();
        }
        self.trained = Some(Trained { gradient: master.zeros_like(), master });
    }

    /// The name in Hugging Face's (for LoRA: PEFT's) layout.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What products use, in the network's dtype.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The fp32 master copy, if trained.
    pub fn master(&self) -> Option<&Tensor> {
        self.trained.as_ref().map(|trained| &trained.master)
    }

    /// The fp32 gradient, if trained.
    pub fn gradient(&self) -> Option<&Tensor> {
        self.trained.as_ref().map(|trained| &trained.gradient)
    }

    /// The fp32 gradient to add to, if trained.
    pub fn gradient_mut(&mut self) -> Option<&mut Tensor> {
        self.trained.as_mut().map(|trained| &mut trained.gradient)
    }

    /// Shape, outermost dim first.
    pub fn shape(&self) -> Vec<usize> {
        self.value.size().iter().map(|&size| size as usize).collect()
    }

    /// Elements of the master copy, row-major; empty if not trained.
    pub fn master_elements(&self) -> &[f32] {
        self.trained.as_ref().map_or(&[], |trained| raw::elements(&trained.master))
    }

    /// Elements of the gradient, row-major; empty if not trained.
    pub fn gradient_elements(&self) -> &[f32] {
        self.trained.as_ref().map_or(&[], |trained| raw::elements(&trained.gradient))
    }

    /// Elements of the master copy and of the gradient, to write to; empty if not trained. [`Weight::refresh`] afterwards.
    pub fn master_and_gradient(&mut self) -> (&mut [f32], &mut [f32]) {
        match &mut self.trained {
            Some(trained) => (raw::elements_mut(&mut trained.master), raw::elements_mut(&mut trained.gradient)),
            None => (&mut [], &mut []),
        }
    }

    /// Adds `a · b` to the gradient, if trained; the product is made only then.
    pub(crate) fn accumulate(&mut self, a: &Tensor, b: &Tensor) {
        if let Some(trained) = &mut self.trained {
            if a.kind() == Kind::Float {
                let _ = trained.gradient.addmm_(a, b);
            } else {
                let _ = trained.gradient.g_add_(&a.matmul(b));
            }
        }
    }

    /// Overwrites the master copy with a file's tensor (on resume) and with it the value.
    ///
    /// # Errors
    /// Another shape or element type, or a weight that is not trained.
    pub fn restore_from(&mut self, stored: &FileTensor) -> Result<(), ModelError> {
        let master = from_file(&self.name, stored, &self.value.size(), Kind::Float)?;
        self.restore(&master)
    }

    /// Overwrites the master copy and with it the value.
    ///
    /// # Errors
    /// Another shape, or a weight that is not trained.
    pub fn restore(&mut self, master: &Tensor) -> Result<(), ModelError> {
        let expected = self.value.size();
        let Some(trained) = self.trained.as_mut().filter(|_| master.size() == expected) else {
            return Err(ModelError::Shape { name: self.name.clone(), found: master.size(), expected });
        };
        trained.master.copy_(master);
        self.refresh();
        Ok(())
    }

    /// Brings the value up to date with the master copy after an optimizer step.
    pub fn refresh(&mut self) {
        if let Some(trained) = &self.trained
            && self.value.kind() != Kind::Float
        {
            self.value.copy_(&trained.master);
        }
    }

    /// The same weight for another network, not trained there. A frozen value is shared; one that is still trained is copied, because
    /// its memory changes at every step.
    pub(crate) fn share(&self) -> Self {
        let value = if self.trained.is_some() { self.value.copy() } else { self.value.shallow_clone() };
        Self::frozen(self.name.clone(), value)
    }
}
