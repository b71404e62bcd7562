//! What each kernel expects of its arguments: how many, of which types, and how much memory behind each pointer. `launch` holds its callers
//! to it, so that no mistake in safe code can make a kernel write past the end of a tensor. The tests hold it to the kernels' text.
//!
//! Numbers in tensors that a kernel finds its way by (an embedding's rows, a token's position) are not seen here: the files that make those
//! tensors check them on the host.

use tch::Kind;
use tch::Kind::{Float, Int, Int64};

use super::cuda::Grid;

/// The memory behind a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) kind: Kind,
    /// At least so many elements.
    pub(super) elements: usize,
    /// Whether the kernel writes to it.
    pub(super) written: bool,
}

/// The arguments of a kernel that are no pointers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// Their types in order: `l` for `long long`, `f` for `float`.
    pub(super) types: &'a str,
    /// The values of those of type `long long`, in order.
    pub(super) integers: &'a [i64],
}

/// The pointers of `kernel` in order, which all come before its numbers; none where there is no kernel of this name, or one with other
/// numbers. `null` says whether a null pointer is among them.
pub(super) fn pointers(kernel: &str, grid: Grid, numbers: Numbers<'_>, null: bool) -> Option<Vec<Memory>> {
    let (base, own) = match kernel.rsplit_once('_') {
        Some((base, "f32")) => (base, Float),
        Some((base, "bf16")) => (base, Kind::BFloat16),
        _ => (kernel, Float),
    };
    let sizes: Vec<usize> = numbers.integers.iter().map(|&number| usize::try_from(number).unwrap_or(usize::MAX)).collect();
    let (x, y) = (grid.blocks.0 as usize, grid.blocks.1 as usize);
    let of = |sizes: &[usize]| sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let reads = |kind: Kind, sizes: &[usize]| Some(Memory { kind, elements: of(sizes)?, written: false });
    let writes = |kind: Kind, sizes: &[usize]| Some(Memory { kind, elements: of(sizes)?, written: true });
    let memory = match (base, numbers.types, sizes.as_slice()) {
        // One block a row; without a null pointer for what is added, the sum is stored in its place.
        ("rmsnorm_forward", "lf", &[width]) => vec![
            writes(own, &[x, width]),
            writes(Float, &[x]),
            if null { reads(own, &[x, width]) } else { writes(own, &[x, width]) },
            reads(own, &[x, width]),
            reads(own, &[width]),
        ],
        ("rmsnorm_backward", "l", &[width]) => vec![
            writes(own, &[x, width]),
            reads(own, &[x, width]),
            reads(own, &[x, width]),
            reads(own, &[width]),
            reads(Float, &[x]),
        ],
        ("rmsnorm_backward_weight", "lll", &[tokens, width, _]) => {
            vec![writes(Float, &[y, width]), reads(own, &[tokens, width]), reads(own, &[tokens, width]), reads(Float, &[tokens])]
        }
        ("sum_chunks", "ll", &[chunks, width]) => vec![writes(Float, &[width]), reads(Float, &[chunks, width])],
        ("add", "l", &[n]) => vec![writes(own, &[n]), reads(own, &[n])],
        // How much of the angles is read depends on the positions.
        ("rope", "lllf", &[tokens, heads, half]) => {
            vec![writes(own, &[tokens, heads, 2, half]), reads(Float, &[half]), reads(Float, &[half]), reads(Int, &[tokens])]
        }
        ("swiglu_forward", "l", &[n]) => vec![writes(own, &[n]), reads(own, &[n]), reads(own, &[n])],
        ("swiglu_backward", "l", &[n]) => vec![writes(own, &[n]), writes(own, &[n]), reads(own, &[n])],
        // One block a row, of as many as there are.
        ("normalisers", "lll", &[_, rows, width]) if x <= rows => {
            vec![writes(Float, &[2, rows]), reads(own, &[rows, width]), reads(Int64, &[rows])]
        }
        ("logits_into_gradients", "lllf", &[_, rows, width]) if x <= rows => {
            vec![writes(own, &[rows, width]), reads(Float, &[2, rows]), reads(Int64, &[rows])]
        }
        // How much of the first two and of the last is used depends on the rows and tokens that the others name.
        ("embedding_backward", "l", &[width]) => {
            vec![writes(Float, &[width]), reads(own, &[width]), reads(Int, &[x]), reads(Int, &[x + 1]), reads(Int, &[0])]
        }
        ("adamw", "lfffffff", &[n]) => {
            vec![writes(Float, &[n]), reads(Float, &[n]), writes(Float, &[n]), writes(Float, &[n])]
        }
        _ => return None,
    };
    memory.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cuda::{kernels, source};

    const GRID: Grid = Grid { blocks: (3, 2), threads: 64 };

    /// The types of a kernel's parameters in the text: each without its name.
    fn declared(kernel: &str) -> Vec<String> {
        let text = source().replace("\\\n", " ");
        let (base, own) = match kernel.rsplit_once('_') {
            Some((base, "f32")) => (format!("{base}_##NAME("), "float"),
            Some((base, "bf16")) => (format!("{base}_##NAME("), "bf16"),
            _ => (format!("void {kernel}("), "float"),
        };
        let from = text.find(&base).unwrap_or_else(|| panic!("{kernel} is in no file")) + base.len();
        let parameters = text[from..].split(')').next().unwrap_or_default();
        let one = |parameter: &str| {
            let parameter = parameter.split_whitespace().collect::<Vec<_>>().join(" ");
            let end = parameter.rfind([' ', '*']).unwrap_or_default() + 1;
            parameter[..end].trim().replace("T *", &format!("{own} *"))
        };
        parameters.split(',').map(one).collect()
    }

    fn shown(memory: Memory) -> String {
        let element = match memory.kind {
            Float => "float",
            Kind::BFloat16 => "bf16",
            Int => "int",
            Int64 => "long long",
            other => panic!("{other:?}"),
        };
        format!("{}{element} *", if memory.written { "" } else { "const " })
    }

    #[test]
    fn every_kernel_is_held_to_what_its_text_declares() {
        for kernel in kernels() {
            let declared = declared(&kernel);
            let numbers = declared.iter().filter(|kind| !kind.ends_with('*'));
            let types: String = numbers.map(|kind| if kind == "float" { 'f' } else { 'l' }).collect();
            let integers = vec![8; types.matches('l').count()];
            let numbers = Numbers { types: &types, integers: &integers };
            let found = pointers(&kernel, GRID, numbers, false).unwrap_or_else(|| panic!("{kernel} {declared:?}"));
            let shown: Vec<String> = found.into_iter().map(shown).collect();
            let expected: Vec<&String> = declared.iter().filter(|kind| kind.ends_with('*')).collect();
            assert_eq!(shown.iter().collect::<Vec<_>>(), expected, "{kernel}");
        }
    }

    #[test]
    fn sizes_that_no_memory_has_are_refused() {
        let ask = |integers: &[i64]| pointers("adamw", GRID, Numbers { types: "lfffffff", integers }, false);
        assert_eq!(ask(&[-1]).unwrap()[0].elements, usize::MAX);
        let rows = |integers: &[i64]| pointers("normalisers_f32", GRID, Numbers { types: "lll", integers }, false);
        assert!(rows(&[0, 3, 5]).is_some() && rows(&[0, 2, 5]).is_none() && rows(&[0, i64::MAX, 5]).is_none());
        assert!(pointers("adamw", GRID, Numbers { types: "l", integers: &[1] }, false).is_none());
    }
}
