use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_types::origin::Origin as Source;
use aws_types::sdk_config::Builder;
use aws_types::service_config::LoadServiceConfig;

use super::*;

fn config(region: &str, url: Option<&str>) -> Builder {
    let mut builder = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
    builder.set_region(Region::new(region.to_owned())).set_endpoint_url(url.map(str::to_owned));
    builder.insert_origin("endpoint_url", Source::shared_environment_variable());
    builder
}

fn place(origin: Option<Origin>) -> String {
    let Some(origin) = origin else { return "the SDK's".to_owned() };
    let host = origin.host.to_str().unwrap().to_owned();
    let scheme = origin.server.scheme_str().unwrap_or_default().to_owned();
    format!("{scheme} {host} {} {} {:?}", origin.path, origin.region, origin.way)
}

#[test]
fn every_place_is_the_sdks_own() {
    let aws = |region, bucket| place(Origin::of(&config(region, None).build(), false, bucket));
    assert_eq!(aws("us-east-1", "b-1"), "https b-1.s3.us-east-1.amazonaws.com  us-east-1 Guarded");
    assert_eq!(aws("cn-north-1", "b-1"), "https b-1.s3.cn-north-1.amazonaws.com.cn  cn-north-1 Guarded");
    // Dots do not fit the certificate.
    assert_eq!(aws("eu-west-2", "b.1"), "https s3.eu-west-2.amazonaws.com /b.1 eu-west-2 Guarded");
    let point = "arn:aws:s3:eu-west-2:111122223333:accesspoint/p";
    assert_eq!(
        aws("eu-west-2", point),
        "https p-111122223333.s3-accesspoint.eu-west-2.amazonaws.com  eu-west-2 Guarded"
    );
    let own = |url, path_style| place(Origin::of(&config("us-east-1", Some(url)).build(), path_style, "bkt"));
    assert_eq!(own("http://127.0.0.1:9000", true), "http 127.0.0.1:9000 /bkt us-east-1 Guarded");
    assert_eq!(own("http://[::1]:9000/store/", true), "http [::1]:9000 /store/bkt us-east-1 Guarded");
    assert_eq!(own("http://store.example:80", true), "http store.example /bkt us-east-1 Open");
    assert_eq!(own("https://store.example:443", false), "https bkt.store.example  us-east-1 Guarded");
    assert_eq!(own("https://store.example:8443", false), "https bkt.store.example:8443  us-east-1 Guarded");
}

/// What the environment says for S3 alone.
#[derive(Debug)]
struct ForS3Alone;

impl LoadServiceConfig for ForS3Alone {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let asked = (key.service_id(), key.env(), key.profile());
        (asked == ("S3", "AWS_ENDPOINT_URL", "endpoint_url")).then(|| "http://s3.example".to_owned())
    }
}

#[test]
fn an_endpoint_for_s3_alone_comes_before_the_one_for_all_but_after_the_configs_own() {
    let of = |config: Builder| place(Origin::of(&config.service_config(ForS3Alone).build(), true, "bkt"));
    assert_eq!(of(config("us-east-1", Some("http://all.example"))), "http s3.example /bkt us-east-1 Open");
    let mut told = config("us-east-1", Some("http://told.example"));
    told.insert_origin("endpoint_url", Source::shared_config());
    assert_eq!(of(told), "http told.example /bkt us-east-1 Open");
}

#[test]
fn fips_and_dual_stack_are_asked_for() {
    let config = config("us-east-1", None).use_fips(true).use_dual_stack(true).build();
    let told = place(Origin::of(&config, false, "bkt"));
    assert_eq!(told, "https bkt.s3-fips.dualstack.us-east-1.amazonaws.com  us-east-1 Guarded");
}

#[test]
fn what_needs_more_than_one_signature_is_left_to_the_sdk() {
    let of = |bucket| place(Origin::of(&config("us-east-1", None).build(), false, bucket));
    // Signed for all regions at once, and with a session's own keys.
    assert_eq!(of("arn:aws:s3::111122223333:accesspoint:mfzwi23gnjvgw.mrap"), "the SDK's");
    assert_eq!(of("b--use1-az4--x-s3"), "the SDK's");
    let nowhere = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    assert_eq!(place(Origin::of(&nowhere, false, "bkt")), "the SDK's");
}
