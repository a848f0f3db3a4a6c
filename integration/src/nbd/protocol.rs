//! The NBD wire format, as far as QEMU's client uses it. Source: the protocol document of the NBD project, `doc/proto.md`.

use std::io::{self, Read, Write};

/// `NBDMAGIC`.
const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`.
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

const HANDSHAKE_FIXED_NEWSTYLE: u16 = 1;
const HANDSHAKE_NO_ZEROES: u16 = 1 << 1;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) | 1;
const INFO_EXPORT: u16 = 0;

/// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM.
const TRANSMISSION_FLAGS: u16 = 1 | (1 << 2) | (1 << 3) | (1 << 5);

const COMMAND_FLAG_FUA: u16 = 1;

/// The longest option or write that is taken; QEMU splits at 32 MiB.
const LONGEST: u32 = 64 << 20;

/// The error numbers of replies.
pub(super) const EIO: u32 = 5;
pub(super) const EINVAL: u32 = 22;

/// What a client asks of the disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Answer only when the data are durable.
    pub(super) fua: bool,
    pub(super) command: Command,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Read,
    Write(Vec<u8>),
    Disconnect,
    Flush,
    Trim,
    Unknown(u16),
}

/// Greets a client (fixed newstyle) and agrees on the one export there is, of `size` bytes. False: it only looked.
pub(super) fn negotiate(stream: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    let mut greeting = Vec::new();
    greeting.extend(INIT_MAGIC.to_be_bytes());
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((HANDSHAKE_FIXED_NEWSTYLE | HANDSHAKE_NO_ZEROES).to_be_bytes());
    stream.write_all(&greeting)?;
    let no_zeroes = read_u32(stream)? & u32::from(HANDSHAKE_NO_ZEROES) != 0;
    loop {
        if read_u64(stream)? != OPTION_MAGIC {
            return Err(invalid("an option without its magic number"));
        }
        let option = read_u32(stream)?;
        let length = read_u32(stream)?;
        read_bytes(stream, length)?; // the name of the export, or what it wants to know: there is but one
        match option {
            OPTION_EXPORT_NAME => {
                let mut answer = [&size.to_be_bytes()[..], &TRANSMISSION_FLAGS.to_be_bytes()].concat();
                if !no_zeroes {
                    answer.resize(answer.len() + 124, 0);
                }
                stream.write_all(&answer)?;
                return Ok(true);
            }
            OPTION_GO | OPTION_INFO => {
                let export = [&INFO_EXPORT.to_be_bytes()[..], &size.to_be_bytes(), &TRANSMISSION_FLAGS.to_be_bytes()];
                answer_option(stream, option, REPLY_INFO, &export.concat())?;
                answer_option(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                answer_option(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => answer_option(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

/// Reads the next request.
pub(super) fn request(stream: &mut impl Read) -> io::Result<Request> {
    let mut header = [0; 28];
    stream.read_exact(&mut header)?;
    let (magic, rest) = header.split_at(4);
    if magic != REQUEST_MAGIC.to_be_bytes() {
        return Err(invalid("a request without its magic number"));
    }
    let [f0, f1, t0, t1, rest @ ..] = rest else { return Err(invalid("a short request")) };
    let flags = u16::from_be_bytes([*f0, *f1]);
    let mut rest = rest;
    let handle = read_u64(&mut rest)?;
    let offset = read_u64(&mut rest)?;
    let length = read_u32(&mut rest)?;
    let command = match u16::from_be_bytes([*t0, *t1]) {
        0 => Command::Read,
        1 => Command::Write(read_bytes(stream, length)?),
        2 => Command::Disconnect,
        3 => Command::Flush,
        4 => Command::Trim,
        other => Command::Unknown(other),
    };
    Ok(Request { handle, offset, length, fua: flags & COMMAND_FLAG_FUA != 0, command })
}

/// Answers a request: `error` 0 and the data of a read, or an error number.
pub(super) fn reply(stream: &mut impl Write, handle: u64, error: u32, data: &[u8]) -> io::Result<()> {
    let mut reply = Vec::with_capacity(16 + data.len());
    reply.extend(REPLY_MAGIC.to_be_bytes());
    reply.extend(error.to_be_bytes());
    reply.extend(handle.to_be_bytes());
    reply.extend(data);
    stream.write_all(&reply)
}

fn answer_option(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut answer = Vec::new();
    answer.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    answer.extend(option.to_be_bytes());
    answer.extend(kind.to_be_bytes());
    answer.extend((data.len() as u32).to_be_bytes());
    answer.extend(data);
    stream.write_all(&answer)
}

fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn read_bytes(stream: &mut impl Read, length: u32) -> io::Result<Vec<u8>> {
    if length > LONGEST {
        return Err(invalid("more than 64 MiB at once"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("NBD: {what}"))
}
