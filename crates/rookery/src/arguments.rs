use std::path::PathBuf;

use boot_model::{DiskSerial, RoleName, Timestamp};
use clap::{Args, Parser, Subcommand};
use nix_format::signature::KeyName;

/// Publishes NixOS systems to a room of network-booted machines
#[derive(Debug, Parser)]
#[command(name = "rookery", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// The site's configuration
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The state directory, instead of the configuration's
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The secret key file, instead of the configuration's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) secret_key: Option<PathBuf>,
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Publish a system, and make it what the role boots unasked
    Publish(PublishArguments),
    /// Mirror a directory of Nix profiles, until it is told to end
    Follow(FollowArguments),
    /// Show what is published
    List,
    /// Show one generation
    Show {
        /// <role>/<id>, or <role>/<number>
        generation: String,
    },
    /// Make the role boot the generation before its default
    Rollback {
        /// Whose default
        role: RoleName,
    },
    /// Choose what the role boots unasked
    Default {
        /// Whose default
        role: RoleName,
        /// <id> or <number>
        generation: String,
    },
    /// Remove a generation
    Remove {
        /// <role>/<id>, or <role>/<number>
        generation: String,
    },
    /// Say what a machine is to do at its next boot, and only then
    BootOnce(BootOnceArguments),
    /// Check every published byte: digests, hashes, signatures
    Verify {
        /// <role>, <role>/<id> or <role>/<number>; everything without it
        what: Option<String>,
    },
    /// Remove packs, bundles and unfinished files that no published generation needs
    Gc(GcArguments),
    /// The site's signing keys
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Boot loaders
    #[command(subcommand)]
    Loaders(LoadersVerb),
}

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// The kind of machine
    pub(crate) role: RoleName,
    /// The system: a toplevel, or a link to one
    pub(crate) toplevel: PathBuf,
    /// Publish from the store below this root (<ROOT>/nix/store)
    #[arg(long, value_name = "ROOT")]
    pub(crate) store: Option<PathBuf>,
    /// Its number [default: the highest plus one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) number: Option<u32>,
    /// Its date, as 2026-11-20T14:03:00Z [default: now]
    #[arg(long)]
    pub(crate) date: Option<Timestamp>,
    /// Make no update bundles from the generations before it
    #[arg(long)]
    pub(crate) no_bundles: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArguments {
    /// The directory of profiles: <role>-<n>-link and <role>
    pub(crate) profiles: PathBuf,
    /// The profiles lead into the store below this root
    #[arg(long, value_name = "ROOT")]
    pub(crate) store: Option<PathBuf>,
    /// Look once and end; exit 1 if something could not be mirrored
    #[arg(long)]
    pub(crate) once: bool,
    /// Make no update bundles
    #[arg(long)]
    pub(crate) no_bundles: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArguments {
    /// Keep what was needed so short a time ago: clients may be fetching it
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) grace: u32,
    /// Remove nothing, only tell what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BootOnceArguments {
    /// Its name in hosts.d, or its card
    pub(crate) host: String,
    /// <id> or <number> of a generation of its role, memtest, reinstall, or nothing (to boot as usual)
    pub(crate) entry: String,
    /// With reinstall: the disk that may be erased, whosever it is
    #[arg(long, value_name = "SERIAL")]
    pub(crate) disk_serial: Option<DiskSerial>,
    /// When the wish is void
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub(crate) hours: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Make the site's secret key; an existing one is never overwritten
    Generate {
        /// The key's name, such as lab.example.org-1: a number lets it be replaced later
        name: KeyName,
    },
    /// Print the public keys: for clients' initrds and for Nix (trusted-public-keys)
    Show,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LoadersVerb {
    /// Copy boot loaders to the state directory and write their table
    Install {
        /// Where the loaders are looked for, in this order: the root of a Debian system or of unpacked packages, or a directory that is
        /// laid out as the installed one
        #[arg(long, value_name = "DIR", default_value = crate::loaders::DEBIAN)]
        from: Vec<PathBuf>,
        /// Send this firmware another loader than usual: bios=ipxe, uefi-x64=grub (for Secure Boot), uefi-x64=syslinux, …
        #[arg(long, value_name = "FIRMWARE=LOADER")]
        loader: Vec<crate::loaders::Wish>,
    },
}
