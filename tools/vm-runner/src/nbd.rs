// SPDX-License-Identifier: GPL-2.0

//! Serves one disk with a volatile write cache to QEMU, by the network block device protocol over a socket: the fixed
//! newstyle handshake and simple replies, as the protocol's document (doc/proto.md of the nbd project) describes them.

use crate::write_cache::CachedDisk;
use anyhow::Context;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, and no 124 bytes of zeroes.
const HANDSHAKE_FLAGS: u16 = 0b11;
const NO_ZEROES: u32 = 0b10;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;

const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = (1 << 31) | 1;

/// Has flags, can flush, can write to stable media, can trim, can write zeroes.
const EXPORT_FLAGS: u16 = 1 | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 6);

const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
const COMMAND_FLUSH: u16 = 3;
const COMMAND_TRIM: u16 = 4;
const COMMAND_WRITE_ZEROES: u16 = 6;
const FLAG_FUA: u16 = 1;

const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// More than QEMU asks for in one request.
const MAX_LENGTH: u32 = 64 << 20;
/// How many bytes of zeroes are written at once.
const ZERO_CHUNK: u64 = 1 << 20;

/// Serves `disk` to one client until that says goodbye, and then flushes it: a guest that ends in order, and even one that
/// panics, does not cut the power of its disks.
pub fn serve(listener: &UnixListener, mut disk: CachedDisk) -> anyhow::Result<()> {
    let (mut stream, _) = listener.accept().context("waiting for QEMU")?;
    let result = match handshake(&mut stream, &disk) {
        Ok(true) => transmission(&mut stream, &mut disk),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    disk.flush().context("flushing a disk")?;
    match result {
        // QEMU may end without a goodbye.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ) =>
        {
            Ok(())
        }
        result => result.context("serving a disk"),
    }
}

fn read_u16(stream: &mut UnixStream) -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn read_u32(stream: &mut UnixStream) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(stream: &mut UnixStream) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn garbage(what: &str) -> std::io::Error {
    std::io::Error::new(ErrorKind::InvalidData, format!("QEMU sent {what}"))
}

/// Agrees on the export; whether the transmission follows.
fn handshake(stream: &mut UnixStream, disk: &CachedDisk) -> std::io::Result<bool> {
    stream.write_all(&NBD_MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
    let client_flags = read_u32(stream)?;
    loop {
        if read_u64(stream)? != OPTION_MAGIC {
            return Err(garbage("an option without its magic"));
        }
        let option = read_u32(stream)?;
        let length = read_u32(stream)?;
        if length > 65536 {
            return Err(garbage("an option that is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME => {
                stream.write_all(&disk.size().to_be_bytes())?;
                stream.write_all(&EXPORT_FLAGS.to_be_bytes())?;
                if client_flags & NO_ZEROES == 0 {
                    stream.write_all(&[0; 124])?;
                }
                return Ok(true);
            }
            OPTION_INFO | OPTION_GO => {
                // NBD_INFO_EXPORT: its type, the size, the flags.
                let mut info = Vec::with_capacity(12);
                info.extend_from_slice(&0u16.to_be_bytes());
                info.extend_from_slice(&disk.size().to_be_bytes());
                info.extend_from_slice(&EXPORT_FLAGS.to_be_bytes());
                option_reply(stream, option, REPLY_INFO, &info)?;
                option_reply(stream, option, REPLY_ACK, &[])?;
                if option == OPTION_GO {
                    return Ok(true);
                }
            }
            OPTION_ABORT => {
                option_reply(stream, option, REPLY_ACK, &[])?;
                return Ok(false);
            }
            _ => option_reply(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn option_reply(
    stream: &mut UnixStream,
    option: u32,
    kind: u32,
    data: &[u8],
) -> std::io::Result<()> {
    let mut reply = Vec::with_capacity(20 + data.len());
    reply.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    reply.extend_from_slice(&option.to_be_bytes());
    reply.extend_from_slice(&kind.to_be_bytes());
    reply.extend_from_slice(&(data.len() as u32).to_be_bytes());
    reply.extend_from_slice(data);
    stream.write_all(&reply)
}

/// Serves requests until the client disconnects.
fn transmission(stream: &mut UnixStream, disk: &mut CachedDisk) -> std::io::Result<()> {
    loop {
        if read_u32(stream)? != REQUEST_MAGIC {
            return Err(garbage("a request without its magic"));
        }
        let flags = read_u16(stream)?;
        let command = read_u16(stream)?;
        let cookie = read_u64(stream)?;
        let offset = read_u64(stream)?;
        let length = read_u32(stream)?;
        if matches!(command, COMMAND_READ | COMMAND_WRITE) && length > MAX_LENGTH {
            return Err(garbage("a request that is too long"));
        }
        let mut payload = Vec::new();
        if command == COMMAND_WRITE {
            payload.resize(length as usize, 0);
            stream.read_exact(&mut payload)?;
        }
        if command == COMMAND_DISCONNECT {
            return Ok(());
        }
        let mut data = Vec::new();
        let valid = command == COMMAND_FLUSH || disk.is_valid(offset, u64::from(length));
        let stable = flags & FLAG_FUA != 0;
        let result = match command {
            _ if !valid => Err(EINVAL),
            COMMAND_READ => {
                data.resize(length as usize, 0);
                disk.read(offset, &mut data).map_err(|_| EIO)
            }
            COMMAND_WRITE => disk.write(offset, &payload, stable).map_err(|_| EIO),
            COMMAND_FLUSH => disk.flush().map_err(|_| EIO),
            COMMAND_WRITE_ZEROES => {
                write_zeroes(disk, offset, u64::from(length), stable).map_err(|_| EIO)
            }
            // A hint, which a disk may ignore.
            COMMAND_TRIM => Ok(()),
            _ => Err(EINVAL),
        };
        let mut reply = Vec::with_capacity(16 + data.len());
        reply.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
        reply.extend_from_slice(&result.err().unwrap_or(0).to_be_bytes());
        reply.extend_from_slice(&cookie.to_be_bytes());
        if result.is_ok() {
            reply.extend_from_slice(&data);
        }
        stream.write_all(&reply)?;
    }
}

fn write_zeroes(
    disk: &mut CachedDisk,
    offset: u64,
    length: u64,
    stable: bool,
) -> std::io::Result<()> {
    let zeroes = vec![0; ZERO_CHUNK.min(length) as usize];
    let mut done = 0;
    while done < length {
        let piece = ZERO_CHUNK.min(length - done);
        disk.write(offset + done, &zeroes[..piece as usize], stable)?;
        done += piece;
    }
    Ok(())
}
