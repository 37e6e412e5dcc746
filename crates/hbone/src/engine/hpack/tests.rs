use super::*;
use proptest::prelude::*;

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut fields = Vec::new();
    let flow = decoder.decode(block, |name, value| {
        fields.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
        ControlFlow::Continue(())
    })?;
    assert!(flow.is_continue());
    Ok(fields)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn check(blocks: &[(&str, &[(&str, &str)])]) {
    let mut decoder = Decoder::new();
    for (block, expected) in blocks {
        let fields = decoded(&mut decoder, &hex(block)).expect("a block of the RFC");
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, *expected, "{block}");
    }
}

/// The three requests of its examples, which are the same in both codings.
fn requests_of_the_rfc() -> [Vec<(&'static str, &'static str)>; 3] {
    let first = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
    let second = [&first[..], &[("cache-control", "no-cache")]].concat();
    let third = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];
    [first, second, third]
}

#[test]
fn the_examples_of_the_rfc_without_huffman() {
    // RFC 7541, C.3
    let [first, second, third] = requests_of_the_rfc();
    check(&[
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", &first),
        ("8286 84be 5808 6e6f 2d63 6163 6865", &second),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", &third),
    ]);
}

#[test]
fn the_examples_of_the_rfc_with_huffman() {
    // RFC 7541, C.4
    let [first, second, third] = requests_of_the_rfc();
    check(&[
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", &first),
        ("8286 84be 5886 a8eb 1064 9cbf", &second),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", &third),
    ]);
}

#[test]
fn what_is_no_block_is_refused() {
    for (block, why) in [
        ("80", "index 0"),
        ("be", "an index beyond both tables"),
        ("ff80 8080 8080 01", "an integer without an end"),
        ("0001", "a string that is not there"),
        ("0005 6162", "half a string"),
        ("3fe2 1f", "a table of more than 4096"),
        ("82 20", "a table size after a field"),
        ("0082 ffff 0161", "Huffman that ends with too many ones"),
        ("0081 00 0161", "Huffman that ends with zeros"),
        ("0084 ffff ffff 0161", "the code of the end within a string"),
    ] {
        assert_eq!(decoded(&mut Decoder::new(), &hex(block)), Err(Malformed), "{why}");
    }
}

#[test]
fn the_table_forgets_what_does_not_fit() {
    let mut decoder = Decoder::new();
    let entry = |byte: u8| {
        let mut block = vec![0x40, 1, byte];
        integer::put(0, 7, 2000, &mut block);
        block.extend([byte; 2000]);
        block
    };
    for byte in *b"abc" {
        decoded(&mut decoder, &entry(byte)).expect("an entry that fits");
    }
    // Two of 2033 bytes fit into 4096.
    assert_eq!(decoded(&mut decoder, &[0xbe]).map(|fields| fields[0].0.clone()), Ok("c".to_owned()));
    assert_eq!(decoded(&mut decoder, &[0xbf]).map(|fields| fields[0].0.clone()), Ok("b".to_owned()));
    assert_eq!(decoded(&mut decoder, &[0xc0]), Err(Malformed));
    decoded(&mut decoder, &[0x20]).expect("a table of nothing");
    assert_eq!(decoded(&mut decoder, &[0xbe]), Err(Malformed));
    // One that is larger than the table empties it and is no error.
    decoded(&mut decoder, &entry(b'd')).expect("an entry that does not fit");
}

#[test]
fn a_block_ends_where_its_reader_says() {
    let mut seen = 0;
    let flow = Decoder::new().decode(&[0x82; 10], |_, _| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((flow, seen), (Ok(ControlFlow::Break(())), 3));
}

proptest! {
    #[test]
    fn huffman_reads_what_was_written(text: Vec<u8>) {
        let mut read = Vec::new();
        prop_assert_eq!(huffman::decode(&huffman::encode(&text), &mut read), Some(()));
        prop_assert_eq!(read, text);
    }

    #[test]
    fn integers_read_as_they_were_written(value in 0_usize..1 << 28, prefix in 4_u32..=7) {
        let mut bytes = Vec::new();
        integer::put(0, prefix, value, &mut bytes);
        prop_assert_eq!(integer::take(&mut bytes.as_slice(), prefix), Ok(value));
    }

    #[test]
    fn blocks_read_as_they_were_written(authority in "[a-z0-9.:]{1,300}", value in "[ -~]{0,9000}", code in 200_u16..600) {
        let status = http::StatusCode::from_u16(code).expect("a status");
        let mut block = Vec::new();
        put_connect(&authority, &mut block);
        put_status(status, &mut block);
        put_field("baggage", value.as_bytes(), &mut block);
        let block = Encoder::default().first(block);
        let fields = decoded(&mut Decoder::new(), &block).expect("our own block");
        let expected = [(":method", "CONNECT"), (":authority", &authority), (":status", status.as_str()), ("baggage", &value)];
        prop_assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn any_bytes_do_no_harm(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::new();
        for block in blocks {
            if decoded(&mut decoder, &block).is_err() {
                break;
            }
        }
    }
}
