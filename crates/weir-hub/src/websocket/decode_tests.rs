use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules { message_bytes: 4096, binary: true };

/// A masked client frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0xfe, 0x00, 0x9a];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn decode(pieces: &[&[u8]], rules: &Rules) -> Result<Vec<Item>, Violation> {
    let mut decoder = Decoder::default();
    let mut items = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        while let Some(item) = decoder.decode(&mut input, rules)? {
            items.push(item);
        }
        assert!(input.is_empty(), "all bytes are taken");
    }
    Ok(items)
}

fn code(bytes: &[u8]) -> u16 {
    decode(&[bytes], &RULES).expect_err("a violation").code
}

#[test]
fn a_message_in_fragments_with_a_ping_between() {
    let mut stream = frame(0x01, "Grü".as_bytes()[..3].as_ref());
    stream.extend(frame(0x89, b"?"));
    stream.extend(frame(0x80, &"Grüße".as_bytes()[3..]));
    let items = decode(&[&stream], &RULES).expect("valid");
    assert_eq!(
        items,
        [Item::Ping(Bytes::from_static(b"?")), Item::Text(Bytes::from_static("Grüße".as_bytes()))]
    );
}

#[test]
fn violations_have_their_codes() {
    assert_eq!(code(&frame(0xc1, b"")), 1002, "reserved bit");
    assert_eq!(code(&frame(0x83, b"")), 1002, "reserved opcode");
    assert_eq!(code(&[0x81, 0x00]), 1002, "not masked");
    assert_eq!(code(&frame(0x09, b"")), 1002, "fragmented ping");
    assert_eq!(code(&frame(0x89, &[0; 126])), 1002, "long ping");
    assert_eq!(code(&frame(0x80, b"")), 1002, "nothing to continue");
    assert_eq!(code(&[frame(0x01, b""), frame(0x81, b"")].concat()), 1002, "message within a message");
    assert_eq!(code(&frame(0x88, &[3])), 1002, "half a close code");
    assert_eq!(code(&frame(0x88, &1005_u16.to_be_bytes())), 1002, "close code that is never sent");
    assert_eq!(code(&frame(0x88, &[0x03, 0xe8, 0xff])), 1007, "close reason");
    assert_eq!(code(&frame(0x81, &[0xff])), 1007, "not UTF-8");
    assert_eq!(code(&frame(0x81, &[0xc3])), 1007, "half a character");
    assert_eq!(code(&frame(0x81, &[b'x'; 4097])), 1009, "too big");
    assert_eq!(code(&[frame(0x01, &[b'x'; 4000]), frame(0x80, &[b'x'; 97])].concat()), 1009);
    let text_only = Rules { binary: false, ..RULES };
    let refused = decode(&[&frame(0x82, b"x")], &text_only).expect_err("text only");
    assert_eq!(refused.code, 1003);
}

#[test]
fn fails_before_the_frame_is_whole() {
    let text = frame(0x81, &[b'a', 0xf4, 0x90, 0x80, 0x80, b'z']);
    let mut decoder = Decoder::default();
    let failed = decoder.decode(&mut &text[..text.len() - 3], &RULES).expect_err("cannot become UTF-8");
    assert_eq!(failed.code, 1007);
    let mut decoder = Decoder::default();
    let huge = [0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(decoder.decode(&mut &huge[..], &RULES).expect_err("announced size").code, 1009);
}

#[test]
fn an_announced_message_takes_memory_only_as_it_arrives() {
    let rules = Rules { message_bytes: 1 << 30, binary: true };
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(1_u64 << 29).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&[7; 100]);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut &head[..], &rules), Ok(None));
    assert!(decoder.message.capacity() < 1024);
    assert!(!decoder.is_at_rest());
}

/// What a client may say, and the frames that say it.
#[derive(Clone, Debug)]
enum Said {
    Text(String, usize),
    Binary(Vec<u8>, usize),
    Ping(Vec<u8>),
    Pong,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        ("\\PC{0,60}", 1_usize..5).prop_map(|(text, parts)| Said::Text(text, parts)),
        (proptest::collection::vec(any::<u8>(), 0..300), 1_usize..5).prop_map(|(b, n)| Said::Binary(b, n)),
        proptest::collection::vec(any::<u8>(), 0..126).prop_map(Said::Ping),
        Just(Said::Pong),
    ]
}

fn fragments(opcode: u8, payload: &[u8], parts: usize, out: &mut Vec<u8>) {
    let size = payload.len().div_ceil(parts).max(1);
    let pieces: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(size).collect() };
    for (i, piece) in pieces.iter().enumerate() {
        let fin = if i + 1 == pieces.len() { 0x80 } else { 0 };
        out.extend(frame(fin | if i == 0 { opcode } else { 0 }, piece));
        if fin == 0 {
            out.extend(frame(0x8a, b"unsolicited"));
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_messages(
        all in proptest::collection::vec(said(), 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for one in &all {
            match one {
                Said::Text(text, parts) => {
                    fragments(1, text.as_bytes(), *parts, &mut stream);
                    expected.push(Item::Text(Bytes::copy_from_slice(text.as_bytes())));
                }
                Said::Binary(bytes, parts) => {
                    fragments(2, bytes, *parts, &mut stream);
                    expected.push(Item::Binary(Bytes::copy_from_slice(bytes)));
                }
                Said::Ping(payload) => {
                    stream.extend(frame(0x89, payload));
                    expected.push(Item::Ping(Bytes::copy_from_slice(payload)));
                }
                Said::Pong => stream.extend(frame(0x8a, b"")),
            }
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let mut items = decode(&pieces, &RULES).expect("a valid stream");
        items.retain(|item| *item != Item::Pong);
        prop_assert_eq!(items, expected);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert!(decode(&single, &RULES).is_ok());
    }

    #[test]
    fn garbage_ends_in_a_close_code(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut decoder = Decoder::default();
        let mut input = &bytes[..];
        loop {
            match decoder.decode(&mut input, &RULES) {
                Ok(Some(Item::Text(text))) => prop_assert!(std::str::from_utf8(&text).is_ok()),
                Ok(Some(_)) => {}
                Ok(None) => break prop_assert!(input.is_empty()),
                Err(violation) => break prop_assert!(matches!(violation.code, 1002 | 1007 | 1009)),
            }
            prop_assert!(decoder.message.len() <= RULES.message_bytes);
        }
    }
}
