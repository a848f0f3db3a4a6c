//! The boot answer matrix: what each kind of client must be sent beside the file's name, by what we are to it. docs/hardware.md
//! says what was seen to boot.

use crate::client::ClientClass;

/// What we are to the client when we answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The server that gives it its address too.
    Full,
    /// The server that adds the boot file to another one's offer (PXE 2.1 §2.2.3, port 67).
    Proxy,
    /// The server that it asks once it has an address (PXE 2.1 §2.2.5, port 4011).
    BootServer,
}

/// One row: a kind of client, and its answer by our part.
pub(crate) struct Row {
    class: ClientClass,
    pub(crate) names: Names,
    full: Cell,
    proxy: Cell,
    /// `None` where no client of this kind asks port 4011.
    boot_server: Option<Cell>,
}

/// What a row names.
pub(crate) enum Names {
    /// The loader for the firmware, by TFTP.
    Loader,
    /// The loader for the firmware, as a URL.
    LoaderUrl,
    /// The iPXE script, as a URL.
    Script,
    /// Nothing: the ROM knows the names.
    Itself,
}

/// What one answer carries besides our address in `siaddr`.
pub(crate) struct Cell {
    /// `file` and option 67. The two always agree: pxelinux prefers `file`, firmware often 67.
    pub(crate) file: bool,
    /// Option 60.
    pub(crate) vendor_class: Option<&'static [u8]>,
    /// Option 43.
    pub(crate) vendor_options: Option<&'static [u8]>,
    /// Option 97, echoed.
    pub(crate) echo_uuid: bool,
    /// Option 66 and `sname`: our address as text.
    pub(crate) server_name: bool,
    /// Option 175.
    pub(crate) etherboot: Option<&'static [u8]>,
}

/// The cell for this kind of client, if there is one.
pub(crate) fn cell(class: ClientClass, part: Part) -> Option<&'static Cell> {
    let row = row(class)?;
    match part {
        Part::Full => Some(&row.full),
        Part::Proxy => Some(&row.proxy),
        Part::BootServer => row.boot_server.as_ref(),
    }
}

/// The row of this kind of client; a running system has none.
pub(crate) fn row(class: ClientClass) -> Option<&'static Row> {
    MATRIX.iter().find(|row| row.class == class)
}

const PXE_CLIENT: Option<&[u8]> = Some(b"PXEClient");

/// Skip boot server discovery, boot at once: PXE 2.1 discovery control (sub-option 6), bit 3.
const BOOT_AT_ONCE: Option<&[u8]> = Some(&[6, 1, 8, 255]);

/// What the Raspberry Pi's ROM looks for before it boots: discovery control, menu prompt, and a boot menu with this very text
/// (raspberrypi/documentation, "network boot"; raspberrypi/firmware#801). No pads between: raspberrypi/rpi-eeprom#82.
const RASPBERRY_PI_BOOT: Option<&[u8]> = Some(b"\x06\x01\x08\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff");

/// Sub-option 176 of iPXE's space, set: no proxyDHCP server will answer, do not wait three seconds for one (measured: 3.08 s
/// to 12 ms from DISCOVER to ACK).
const NO_PXEDHCP: Option<&[u8]> = Some(&[176, 1, 1]);

/// A file and nothing around it.
const FILE: Cell = Cell {
    file: true,
    vendor_class: None,
    vendor_options: None,
    echo_uuid: false,
    server_name: false,
    etherboot: None,
};

const BIOS: Cell =
    Cell { vendor_class: PXE_CLIENT, vendor_options: BOOT_AT_ONCE, echo_uuid: true, server_name: true, ..FILE };

/// EDK2 refuses an offer whose option 60 does not begin with HTTPClient (HttpBootParseDhcp4Packet).
const HTTP: Cell = Cell { vendor_class: Some(b"HTTPClient"), ..FILE };

const RASPBERRY_PI: Cell =
    Cell { file: false, vendor_class: PXE_CLIENT, vendor_options: RASPBERRY_PI_BOOT, server_name: true, ..FILE };

/// With option 60, `siaddr` and a file iPXE boots at once and asks port 4011 no more (`dhcp_has_pxeopts`).
const IPXE_PROXY: Cell = Cell { vendor_class: PXE_CLIENT, ..FILE };

const MATRIX: [Row; 6] = [
    Row { class: ClientClass::BiosPxe, names: Names::Loader, full: BIOS, proxy: BIOS, boot_server: Some(BIOS) },
    Row {
        class: ClientClass::UefiPxe,
        names: Names::Loader,
        // Option 60 without 43 makes EDK2 ask port 4011 (PxeBcRetryBinlOffer; FOGProject/fog-docs#188), 43 sends it into its
        // broken menu code (dnsmasq `pxe_uefi_workaround`): neither.
        full: Cell { server_name: true, ..FILE },
        // Here it is to ask port 4011: with 60, without 43 and without a file, which all firmware understands (dnsmasq
        // `redirect4011`, pixiecore).
        proxy: Cell { file: false, vendor_class: PXE_CLIENT, echo_uuid: true, ..FILE },
        boot_server: Some(Cell { vendor_class: PXE_CLIENT, echo_uuid: true, server_name: true, ..FILE }),
    },
    Row { class: ClientClass::UefiHttp, names: Names::LoaderUrl, full: HTTP, proxy: HTTP, boot_server: None },
    Row {
        class: ClientClass::Ipxe,
        names: Names::Script,
        full: Cell { etherboot: NO_PXEDHCP, ..FILE },
        proxy: IPXE_PROXY,
        boot_server: Some(IPXE_PROXY),
    },
    Row {
        class: ClientClass::RaspberryPi,
        names: Names::Itself,
        full: RASPBERRY_PI,
        proxy: RASPBERRY_PI,
        boot_server: None,
    },
    // Reads siaddr and `file`; 67 only in some builds (net/bootp.c), and in proxy mode too (siderolabs/booter#12).
    Row { class: ClientClass::Uboot, names: Names::Loader, full: FILE, proxy: FILE, boot_server: None },
];
