//! Device memory as collectives see it: an address, a number of elements, their type.

use std::ffi::c_int;

use super::Failure;

/// Element types that device collectives know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE single.
    F32,
    /// bfloat16. A sum of these is rounded at every hop: for activations, never for gradients.
    Bf16,
    /// Bytes, which are moved and never summed.
    U8,
}

impl Element {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
            Element::U8 => 1,
        }
    }

    /// NCCL's number for it (`ncclDataType_t`).
    pub(super) fn code(self) -> c_int {
        match self {
            Element::U8 => 1,
            Element::F32 => 7,
            Element::Bf16 => 9,
        }
    }
}

/// A contiguous piece of device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Device address of the first element: a tensor's data pointer.
    pub address: u64,
    /// Elements.
    pub elements: usize,
    /// Their type.
    pub element: Element,
}

impl Region {
    /// Bytes in all.
    pub(super) fn bytes(&self) -> usize {
        self.elements.saturating_mul(self.element.size())
    }
}

/// A region that lies inside one allocation of the device that it is to be used on. Only `Device::check` makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked(pub(super) Region);

/// Checks the type of elements that are to be summed.
pub(super) fn summable(region: Region, allowed: &[Element]) -> Result<(), Failure> {
    if allowed.contains(&region.element) {
        return Ok(());
    }
    Err(refused(format!("a sum of {:?} elements, expected {allowed:?}", region.element)))
}

/// Checks the parts of a gather or a scatter: `whole` holds one `part` per rank.
pub(super) fn divides(part: Region, whole: Region, ranks: usize) -> Result<(), Failure> {
    if part.element != whole.element {
        return Err(refused(format!("{:?} elements on one side and {:?} on the other", part.element, whole.element)));
    }
    if part.elements.checked_mul(ranks) != Some(whole.elements) {
        let (found, part) = (whole.elements, part.elements);
        return Err(refused(format!("{found} elements in all, expected {part} for each of {ranks} ranks")));
    }
    Ok(())
}

/// Whether `[address, address + bytes)` lies inside the allocation `[base, base + size)`.
pub(super) fn inside(region: Region, base: u64, size: usize) -> bool {
    let end = region.address.checked_add(region.bytes() as u64);
    region.address >= base && end.is_some_and(|end| end <= base.saturating_add(size as u64))
}

/// Checks that `part` is apart from `whole` or is this rank's part of it: anything else would be overwritten while it is read.
pub(super) fn in_place(part: Region, whole: Region, rank: usize) -> Result<(), Failure> {
    let end = |region: Region| region.address.saturating_add(region.bytes() as u64);
    let apart = end(part) <= whole.address || end(whole) <= part.address;
    let own = (rank as u64).checked_mul(part.bytes() as u64).and_then(|before| whole.address.checked_add(before));
    if apart || own == Some(part.address) {
        return Ok(());
    }
    let (at, whole) = (part.address, whole.address);
    Err(refused(format!(
        "a part at {at:#x} that overlaps the whole at {whole:#x}, expected it apart or where the part of rank {rank} is"
    )))
}

pub(super) fn refused(message: String) -> Failure {
    Failure::new("a device collective", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(address: u64, elements: usize, element: Element) -> Region {
        Region { address, elements, element }
    }

    #[test]
    fn parts_must_make_the_whole() {
        let part = region(0, 3, Element::F32);
        assert!(divides(part, region(0, 12, Element::F32), 4).is_ok());
        let error = divides(part, region(0, 11, Element::F32), 4).unwrap_err();
        assert_eq!(error.message, "11 elements in all, expected 3 for each of 4 ranks");
        assert!(divides(part, region(0, 12, Element::Bf16), 4).is_err());
        assert!(divides(region(0, usize::MAX, Element::F32), part, 4).is_err());
    }

    #[test]
    fn a_region_must_lie_inside_its_allocation() {
        let four = region(100, 4, Element::F32);
        assert!(inside(four, 100, 16) && inside(four, 50, 66));
        assert!(!inside(four, 100, 15) && !inside(four, 101, 100));
        assert!(!inside(region(u64::MAX - 1, 4, Element::F32), 0, usize::MAX));
        assert_eq!([Element::F32, Element::Bf16, Element::U8].map(|element| region(0, 6, element).bytes()), [24, 12, 6]);
    }

    #[test]
    fn a_part_is_in_its_place_or_apart() {
        let (whole, part) = (region(100, 12, Element::F32), |address| region(address, 4, Element::F32));
        for (address, rank, good) in
            [(116, 1, true), (116, 0, false), (100, 0, true), (117, 1, false), (84, 2, true), (85, 2, false)]
        {
            assert_eq!(in_place(part(address), whole, rank).is_ok(), good, "{address} on rank {rank}");
        }
        assert!(in_place(part(148), whole, 0).is_ok());
        assert!(in_place(region(0, 0, Element::F32), region(0, 0, Element::F32), 3).is_ok());
    }

    #[test]
    fn only_what_is_allowed_is_summed() {
        assert!(summable(region(0, 1, Element::Bf16), &[Element::F32, Element::Bf16]).is_ok());
        let error = summable(region(0, 1, Element::U8), &[Element::F32]).unwrap_err();
        assert_eq!(error.message, "a sum of U8 elements, expected [F32]");
    }
}
