//! `rookery-menu-generator`: the boot menus of every published generation.
//!
//! Promises: one menu model, rendered for each loader, so that all of them offer the same; a rendered file has exactly the entries
//! and directives of its model, whatever a label, a title or a kernel parameter holds; a reader of `menus/current` finds a complete
//! set of one moment, whenever the service dies.
//!
//! What a menu only shows is folded to characters that the loader shows as they are. What a menu passes on, the kernel's command
//! line, is never rewritten: an entry that a loader would misread is left out of that loader's menu, and named.
//!
//! A role with generations for two architectures has a menu for each: pxelinux and syslinux.efi run on PCs only, GRUB and iPXE say
//! what they run on and read that one.
//!
//! Deliberately not here: serving the files (`tftpd` and `nar-cache` do), and U-Boot's menus.

mod cli;
mod compose;
mod display;
mod followed;
mod grub;
mod intents;
mod ipxe;
mod label;
mod loader;
mod menu;
mod pxelinux;
mod render;
mod serial;
mod serve;
mod set;

pub use cli::{Cli, run};
pub use compose::{Composer, LeftOut};
pub use intents::Intents;
pub use loader::Loader;
pub use menu::{Action, Boot, Item, Menu};
pub use render::{Rendered, Sources, render};
pub use serve::serve;
pub use set::{SetError, Stored, store};
