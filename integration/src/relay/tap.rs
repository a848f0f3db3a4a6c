use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;

use crate::{Error, Result};

const TUN: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(tun_set_interface, libc::TUNSETIFF, libc::ifreq);

/// Opens the tap of this name in the namespace of the calling thread. Whole Ethernet frames, nothing before them.
pub(super) fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(TUN).map_err(Error::io(format!("opening {TUN}")))?;
    let mut interface_name = [0; libc::IFNAMSIZ];
    if name.len() >= interface_name.len() {
        return Err(Error::Wrong(format!("{name} is too long for a network device")));
    }
    for (to, from) in interface_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    let request =
        libc::ifreq { ifr_name: interface_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    // SAFETY: TUNSETIFF reads one ifreq, of which name and flags are set; `request` outlives the call and `file` is open.
    #[allow(unsafe_code)]
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }
        .map_err(Error::errno(format!("attaching to {name}")))?;
    Ok(file)
}
