//! Puts the rows of query and key projections in Hugging Face's order.
//!
//! Rotary embedding turns pairs of elements of a head. Mistral's own files and GGUF keep the two of a pair next to each other
//! (row `2i + part`); Hugging Face keeps them half a head apart (row `part · head_dim/2 + i`).

/// Reorders the rows of `[heads · head_dim, in]` from interleaved pairs to split halves. `data.len()` is rows × `row_len`.
pub(super) fn split_halves<T: Copy>(data: &[T], heads: usize, head_dim: usize, row_len: usize) -> Vec<T> {
    let half = head_dim / 2;
    let mut out = Vec::with_capacity(data.len());
    for head in 0..heads {
        for part in 0..2 {
            for i in 0..half {
                let row = head * head_dim + 2 * i + part;
                out.extend_from_slice(&data[row * row_len..(row + 1) * row_len]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_end_half_a_head_apart() {
        // Two heads of four rows with two elements each.
        let rows: Vec<u32> = (0..8).flat_map(|r| [r * 10, r * 10 + 1]).collect();
        let out = split_halves(&rows, 2, 4, 2);
        let order: Vec<u32> = out.chunks(2).map(|r| r[0] / 10).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(out[3], 21);
    }
}
