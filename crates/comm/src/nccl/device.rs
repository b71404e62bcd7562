//! One CUDA device: a stream of our own beside libtorch's, and events that order the two.
//!
//! libtorch works on the legacy default stream (the null stream) of the device's primary context. A collective must not start before
//! what libtorch has been given so far is done, and libtorch must not go on to use the result before the collective is done; neither
//! may hold up the host. Both orders are events: recorded on one stream, waited for by the other.
#![expect(unsafe_code, reason = "the driver is asked where a pointer lies")]

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaEvent, CudaStream, DriverError,
    sys::{self, CUevent_flags, CUmemorytype, CUpointer_attribute, CUresult},
};

use super::{
    Failure,
    meeting::OPEN,
    region::{self, Checked, Region, refused},
};
use crate::{Collective, CommError, membership::WORLD};

/// A CUDA device as collectives use it. Groups that share one run their collectives in the order submitted, on one stream.
pub struct Device {
    context: Arc<CudaContext>,
    own: Arc<CudaStream>,
    torch: Arc<CudaStream>,
}

impl Device {
    /// Opens device `ordinal` (as libtorch numbers them) in its primary context, which is libtorch's, too.
    ///
    /// # Errors
    /// [`CommError::Nccl`] where there is no driver, no such device, or the driver refuses.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, CommError> {
        Self::try_open(ordinal).map_err(|failure| {
            let (name, group) = (format!("{OPEN} {ordinal}"), WORLD.to_owned());
            failure.in_collective(Collective { name, group, sequence: 0, message: None })
        })
    }

    fn try_open(ordinal: usize) -> Result<Arc<Self>, Failure> {
        // SAFETY: loading the driver's library has no requirements. cudarc ends the process where it is missing, so this comes first.
        if !unsafe { sys::is_culib_present() } {
            return Err(Failure::new("dlopen", "no CUDA driver (libcuda.so.1) on this machine".to_owned()));
        }
        let context = CudaContext::new(ordinal).map_err(driver("cuDevicePrimaryCtxRetain"))?;
        let own = context.new_stream().map_err(driver("cuStreamCreate"))?;
        let torch = context.default_stream();
        Ok(Arc::new(Device { context, own, torch }))
    }

    /// What tells this device from all others: two ranks may not share one.
    pub(super) fn identity(&self) -> Result<String, Failure> {
        let uuid = self.context.uuid().map_err(driver("cuDeviceGetUuid"))?;
        Ok(uuid.bytes.iter().map(|&byte| format!("{:02x}", byte as u8)).collect())
    }

    /// Makes the device current on this thread, as NCCL expects.
    pub(super) fn bind(&self) -> Result<(), Failure> {
        self.context.bind_to_thread().map_err(driver("cuCtxSetCurrent"))
    }

    /// The stream that collectives run on.
    pub(super) fn stream(&self) -> &CudaStream {
        &self.own
    }

    /// Lets the own stream wait for all that libtorch has been given, and marks the place where the collective begins.
    pub(super) fn begin(&self) -> Result<CudaEvent, Failure> {
        let given = self.torch.record_event(None).map_err(driver("cuEventRecord"))?;
        self.own.wait(&given).map_err(driver("cuStreamWaitEvent"))?;
        self.mark()
    }

    /// Marks the present end of the own stream, with the time.
    pub(super) fn mark(&self) -> Result<CudaEvent, Failure> {
        self.own.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(driver("cuEventRecord"))
    }

    /// Lets libtorch's stream wait for `event`; the host goes on.
    pub(super) fn torch_waits_for(&self, event: &CudaEvent) -> Result<(), Failure> {
        self.torch.wait(event).map_err(driver("cuStreamWaitEvent"))
    }

    /// Accepts a region if it lies inside one allocation on this device. The worst that a wrong address can do after this is wrong
    /// numbers in device memory: host memory is out of reach, also where the GPU could address it.
    pub(super) fn check(&self, region: Region) -> Result<Checked, Failure> {
        if region.elements == 0 {
            return Ok(Checked(region));
        }
        self.bind()?;
        let at = region.address;
        let kind: u32 = pointer_attribute(at, CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE)?;
        let ordinal: i32 = pointer_attribute(at, CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)?;
        if kind != CUmemorytype::CU_MEMORYTYPE_DEVICE as u32 || usize::try_from(ordinal) != Ok(self.context.ordinal()) {
            let expected = self.context.ordinal();
            return Err(refused(format!(
                "address {at:#x} (memory type {kind}, device {ordinal}), expected memory of device {expected}"
            )));
        }
        let (base, size) = allocation(at)?;
        if !region::inside(region, base, size) {
            let bytes = region.bytes();
            return Err(refused(format!("{bytes} bytes at {at:#x}, beyond their allocation of {size} bytes at {base:#x}")));
        }
        Ok(Checked(region))
    }
}

/// `T` is the type that the driver's documentation gives for the attribute: 32 bits for both that are asked for here.
fn pointer_attribute<T: Default>(address: u64, attribute: CUpointer_attribute) -> Result<T, Failure> {
    let mut value = T::default();
    // SAFETY: the driver writes one value of the attribute's type, and only reads its own tables about `address`.
    let code = unsafe { sys::cuPointerGetAttribute((&raw mut value).cast(), attribute, address) };
    succeed("cuPointerGetAttribute", code).map(|()| value)
}

/// First address and bytes of the allocation that `address` lies in.
fn allocation(address: u64) -> Result<(u64, usize), Failure> {
    let (mut base, mut size) = (0, 0);
    // SAFETY: the driver writes the two numbers, and only reads its own tables about `address`.
    let code = unsafe { sys::cuMemGetAddressRange_v2(&raw mut base, &raw mut size, address) };
    succeed("cuMemGetAddressRange", code).map(|()| (base, size))
}

fn succeed(call: &'static str, code: CUresult) -> Result<(), Failure> {
    code.result().map_err(driver(call))
}

/// A driver's error in our words.
pub(super) fn driver(call: &'static str) -> impl Fn(DriverError) -> Failure {
    move |error| Failure::new(call, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_driver_is_told_so() {
        // SAFETY: as in `try_open`.
        if unsafe { sys::is_culib_present() } {
            return;
        }
        let error = Device::open(0).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "dlopen failed in `open CUDA device 0` (collective 0): no CUDA driver (libcuda.so.1) on this machine"
        );
    }
}
