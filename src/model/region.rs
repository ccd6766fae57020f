//! AWS regions.

/// The AWS partition of a region, as it stands in an ARN; `aws` for a name of no known form.
///
/// Source: `partitions.json` of botocore 1.43.
#[must_use]
pub fn partition(region: &str) -> &'static str {
    const FORMS: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("eusc-", "aws-eusc"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
    ];
    FORMS.into_iter().find_map(|(start, partition)| region.starts_with(start).then_some(partition)).unwrap_or("aws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_region_lies_in_its_partition() {
        for (region, expected) in [
            ("us-east-1", "aws"),
            ("eu-west-2", "aws"),
            ("il-central-1", "aws"),
            ("mx-central-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("eusc-de-east-1", "aws-eusc"),
            ("us-iso-east-1", "aws-iso"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eu-isoe-west-1", "aws-iso-e"),
            ("us-isof-south-1", "aws-iso-f"),
            ("", "aws"),
        ] {
            assert_eq!(partition(region), expected, "{region}");
        }
    }
}
