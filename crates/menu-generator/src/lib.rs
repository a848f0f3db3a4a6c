//! `rookery-menu-generator`: the boot menus of every published generation.
//!
//! Promises: one menu model, rendered for each loader, so that all of them offer the same; a rendered file has exactly the entries
//! and directives of its model, whatever a label, a title or a kernel parameter holds; a reader of `menus/current` finds a complete
//! set of one moment, whenever the service dies.
//!
//! What a menu only shows is folded to characters that the loader shows as they are. What a menu passes on, the kernel's command
//! line, is never rewritten: an entry that a loader would misread is left out of that loader's menu, and named.
//!
//! Deliberately not here: serving the files (`tftpd` and `nar-cache` do), GRUB and U-Boot menus, and one iPXE script for a role with
//! generations of two architectures: it offers those for 64-bit PCs.

mod cli;
mod compose;
mod display;
mod ipxe;
mod label;
mod loader;
mod menu;
mod pxelinux;
mod render;
mod serve;
mod set;

pub use cli::{Cli, run};
pub use compose::{Composer, LeftOut};
pub use loader::Loader;
pub use menu::{Action, Boot, Item, Menu};
pub use render::{Rendered, render};
pub use serve::serve;
pub use set::{SetError, Stored, store};
