//! Reading handshake payloads and addresses.
#![no_main]

use bowline_messages::EndpointAddress;
use bowline_messages::wire::OfferedVersions;
use bowline_messages::wire::hello::{
    AnswerPayload, AttachBody, AttachPayload, AttachedPayload, FinishPayload, HelloBody,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (HelloBody::decode(data), AttachBody::decode(data), OfferedVersions::parse(data));
    if let Ok(answer) = AnswerPayload::decode(data) {
        assert_eq!(AnswerPayload::decode(&answer.encode()), Ok(answer));
    }
    if let Ok(finish) = FinishPayload::decode(data) {
        assert_eq!(FinishPayload::decode(&finish.encode()), Ok(finish));
    }
    if let Ok(attach) = AttachPayload::decode(data) {
        assert_eq!(AttachPayload::decode(&attach.encode()), Ok(attach));
    }
    if let Ok(attached) = AttachedPayload::decode(data) {
        assert_eq!(AttachedPayload::decode(&attached.encode()), Ok(attached));
    }
    let _ = std::str::from_utf8(data).map(|text| text.parse::<EndpointAddress>());
});
