//! Bytes of a disk are nobody's promise: nothing here may panic, and what was encoded is read back.

use disk_layout::{
    Contents, DiskFacts, Window,
    gpt::{Entry, Header, encode_entries},
    mbr::{Claim, Mbr},
    plan, wanted,
};
use proptest::prelude::*;
use uuid::Uuid;

/// At most so many, in places of which some are left out.
fn entries(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    let numbered = |(number, entry)| Entry { number, ..entry };
    prop::collection::btree_map(1..=128_u32, entry(), 0..most)
        .prop_map(move |entries| entries.into_iter().map(numbered).collect())
}

fn entry() -> impl Strategy<Value = Entry> {
    (1..u128::MAX, any::<u128>(), any::<u64>(), any::<u64>(), any::<u64>(), "[a-zA-Z0-9äß€._-]{0,36}").prop_map(
        |(type_guid, unique_guid, first_lba, last_lba, attributes, name)| Entry {
            number: 0,
            type_guid: Uuid::from_u128(type_guid),
            unique_guid: Uuid::from_u128(unique_guid),
            first_lba,
            last_lba,
            attributes,
            name,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_are_read_back(entries in entries(20), guid: u128, lbas: [u64; 5], big: bool) {
        let array = encode_entries(&entries);
        let header = Header {
            my_lba: lbas[0], alternate_lba: lbas[1], first_usable: lbas[2], last_usable: lbas[3], entries_lba: lbas[4],
            disk_guid: Uuid::from_u128(guid), entry_count: 128, entry_size: 128, entries_crc: crc32fast::hash(&array),
        };
        let sector = header.encode(if big { 4096 } else { 512 });
        let read = Header::decode(&sector);
        prop_assert_eq!(read.as_ref(), Ok(&header));
        prop_assert_eq!(header.decode_entries(&array), Ok(entries));
    }

    #[test]
    fn one_flipped_bit_is_noticed(guid: u128, bit in 0..92 * 8_usize) {
        let array = encode_entries(&[]);
        let header = Header {
            my_lba: 1, alternate_lba: 99, first_usable: 34, last_usable: 60, entries_lba: 2,
            disk_guid: Uuid::from_u128(guid), entry_count: 128, entry_size: 128, entries_crc: crc32fast::hash(&array),
        };
        let mut sector = header.encode(512);
        sector[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Header::decode(&sector).is_err());
    }

    #[test]
    fn claims_are_read_back_and_bound_to_their_sector(guid: u128, id: [u8; 32], sums: [u32; 2], nonce: Option<u128>, bit in 0..512 * 8_usize) {
        let claim = Claim {
            disk_guid: Uuid::from_u128(guid), spec_id: disk_layout::SpecId(id), before_primary: sums[0], before_backup: sums[1],
            consent: nonce.filter(|nonce| *nonce != 0).map(|nonce| boot_model::Nonce::new(nonce.to_be_bytes())),
        };
        let mut sector = claim.encode(1 << 20, 512);
        prop_assert_eq!(Mbr::decode(&sector), Mbr::Claim(claim.clone()));
        sector[bit / 8] ^= 1 << (bit % 8);
        prop_assert_ne!(Mbr::decode(&sector), Mbr::Claim(claim));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        pieces in prop::collection::vec((0..3_u8, 0..70_000_usize, prop::collection::vec(any::<u8>(), 1..200)), 0..12),
        size in 0..400_u64 << 20, big: bool, header: bool, lbas: [u64; 5], counts: [u32; 2], entries in entries(5),
    ) {
        let sector_size = if big { 4096 } else { 512 };
        let mut facts = DiskFacts { size, sector_size, ..DiskFacts::default() };
        let mut contents = Contents::default();
        for range in wanted(&facts) {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            for (kind, at, piece) in &pieces {
                let at = if *kind == 0 { *at } else { bytes.len().saturating_sub(*at) };
                let end = (at + piece.len()).min(bytes.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&piece[..end - at]);
                }
            }
            if header && range.start == 0 && bytes.len() > 64 << 10 {
                // A header that sums up and lies about everything.
                let array = encode_entries(&entries);
                let spec = crate::simulator::spec(1, "wipe", &crate::simulator::partitions());
                let header = Header {
                    my_lba: 1, alternate_lba: lbas[1], first_usable: lbas[2], last_usable: lbas[3],
                    entries_lba: if counts[0] % 2 == 0 { 2 } else { lbas[4] },
                    disk_guid: spec.disk_guid(),
                    entry_count: if counts[1] % 2 == 0 { 128 } else { counts[0] },
                    entry_size: if counts[1] % 3 == 0 { counts[1] } else { 128 },
                    entries_crc: crc32fast::hash(&array),
                };
                let sector = sector_size as usize;
                bytes[sector..2 * sector].copy_from_slice(&header.encode(sector_size));
                bytes[2 * sector..2 * sector + array.len()].copy_from_slice(&array);
            }
            contents.insert(range.start, bytes);
        }
        facts.contents = contents;
        for range in wanted(&facts) {
            facts.contents.insert(range.start, vec![0x53; (range.end - range.start) as usize]);
        }
        let spec = crate::simulator::spec(1, "wipe", &crate::simulator::partitions());
        let verdict = plan(&spec, &facts, None);
        let _ = disk_layout::steps(&spec, &facts, &verdict);
        let _ = disk_layout::choose(&spec, std::slice::from_ref(&facts));
        let _ = Window::new(&facts.contents, 0, size).edges();
    }

    #[test]
    fn no_bytes_are_a_header_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Header::decode(&bytes).is_err());
        let _ = Mbr::decode(&bytes);
    }
}
