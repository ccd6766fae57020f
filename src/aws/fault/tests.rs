use super::*;

fn s3(status: u16, code: &str, message: &str) -> FaultKind {
    classify(Side::Source, Some(status), (!code.is_empty()).then_some(code), message)
}

#[test]
fn the_table_of_codes_holds() {
    let rows = [
        (503, "SlowDown", "", FaultKind::Throttled),
        (200, "SlowDown", "", FaultKind::Throttled),
        (503, "ServiceUnavailable", "", FaultKind::Throttled),
        (503, "", "", FaultKind::Throttled),
        (429, "", "", FaultKind::Throttled),
        (400, "ThrottlingException", "", FaultKind::Throttled),
        (400, "KMS.ThrottlingException", "", FaultKind::Throttled),
        (400, "KmsThrottled", "", FaultKind::Throttled),
        (500, "InternalError", "", FaultKind::Transient),
        (200, "InternalError", "", FaultKind::Transient),
        (200, "", "", FaultKind::Transient),
        (502, "", "", FaultKind::Transient),
        (504, "", "", FaultKind::Transient),
        (400, "RequestTimeout", "", FaultKind::Transient),
        (400, "ExpiredToken", "", FaultKind::Transient),
        (400, "IncompleteBody", "", FaultKind::Transient),
        (412, "PreconditionFailed", "", FaultKind::Raced),
        (412, "", "", FaultKind::Raced),
        (409, "ConditionalRequestConflict", "", FaultKind::Raced),
        (409, "OperationAborted", "", FaultKind::Raced),
        (409, "BucketAlreadyExists", "", FaultKind::Refused),
        (404, "NoSuchKey", "", FaultKind::Gone),
        (404, "NoSuchVersion", "", FaultKind::Gone),
        (404, "NoSuchUpload", "", FaultKind::Gone),
        (404, "NoSuchBucket", "", FaultKind::Refused),
        (403, "AccessDenied", "Access Denied", FaultKind::Denied),
        (403, "", "", FaultKind::Denied),
        (403, "InvalidAccessKeyId", "", FaultKind::Denied),
        (403, "SignatureDoesNotMatch", "", FaultKind::Denied),
        (403, "RequestTimeTooSkewed", "", FaultKind::Denied),
        (403, "AllAccessDisabled", "", FaultKind::Denied),
        (400, "KMS.DisabledException", "", FaultKind::KeyUnusable),
        (400, "KMS.NotFoundException", "", FaultKind::KeyUnusable),
        (400, "KMS.KMSInternalException", "", FaultKind::Transient),
        (403, "KmsAccessDenied", "", FaultKind::KeyUnusable),
        (403, "InvalidObjectState", "", FaultKind::Archived),
        (403, "ObjectNotInActiveTierError", "", FaultKind::Archived),
        (400, "EntityTooLarge", "", FaultKind::Ineligible),
        (400, "BadDigest", "", FaultKind::Corrupt),
        (400, "InvalidDigest", "", FaultKind::Corrupt),
        (400, "XAmzContentChecksumMismatch", "", FaultKind::Corrupt),
        (301, "PermanentRedirect", "", FaultKind::Refused),
        (400, "AuthorizationHeaderMalformed", "", FaultKind::Refused),
        (405, "MethodNotAllowed", "", FaultKind::Refused),
        (501, "NotImplemented", "", FaultKind::Refused),
        (501, "", "", FaultKind::Refused),
    ];
    for (status, code, message, kind) in rows {
        assert_eq!(s3(status, code, message), kind, "{status} {code}");
    }
}

#[test]
fn the_words_of_a_denial_tell_s3_from_kms() {
    let by_key = "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: kms:GenerateDataKey on resource: \
                  arn:aws:kms:eu-west-2:1:key/k because no resource-based policy allows the action";
    assert_eq!(s3(403, "AccessDenied", by_key), FaultKind::KeyUnusable);
    let by_bucket = "User: arn:aws:iam::1:user/u is not authorized to perform: s3:PutObject on resource: \
                     \"arn:aws:s3:::b/KMS/kms:notes\" because no identity-based policy allows it";
    assert_eq!(s3(403, "AccessDenied", by_bucket), FaultKind::Denied);
    let by_ciphertext = "The ciphertext refers to a KMS key that does not exist or that you may not access.";
    assert_eq!(s3(403, "AccessDenied", by_ciphertext), FaultKind::KeyUnusable);
}

#[test]
fn an_invalid_request_is_read_by_its_words() {
    let customer_key = "The object was stored using a form of Server Side Encryption. The correct parameters must be \
                        provided to retrieve the object.";
    assert_eq!(s3(400, "InvalidRequest", customer_key), FaultKind::Ineligible);
    let marker = "The source of a copy request may not specifically refer to a delete marker by version id.";
    assert_eq!(s3(400, "InvalidRequest", marker), FaultKind::Gone);
    assert_eq!(s3(400, "InvalidRequest", "Missing required header for this request"), FaultKind::Refused);
}

#[test]
fn the_key_service_speaks_its_own_codes() {
    let kms = |code| classify(Side::Keys, Some(400), Some(code), "");
    assert_eq!(kms("NotFoundException"), FaultKind::KeyUnusable);
    assert_eq!(kms("DisabledException"), FaultKind::KeyUnusable);
    assert_eq!(kms("AccessDeniedException"), FaultKind::Denied);
    assert_eq!(kms("KeyUnavailableException"), FaultKind::Transient);
    assert_eq!(kms("ThrottlingException"), FaultKind::Throttled);
    assert_eq!(kms("UnrecognizedClientException"), FaultKind::Denied);
}
