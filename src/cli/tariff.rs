//! Which prices hold for the buckets of a config.

use std::path::Path;

use crate::config::{self, Config, Connection};
use crate::plan::prices::{Home, Tariff};

use super::Failure;

/// The price table of a text, or the one that is built in, with the places of the config.
pub(super) fn tariff(config: &Config, prices: Option<&str>) -> Result<Tariff, Failure> {
    let table = match prices {
        Some(text) => config::parse_prices(text, "price table"),
        None => config::built_in_prices(),
    };
    let table = table.map_err(|errors| Failure::usage(format!("the price table has errors\n{errors}")))?;
    let targets = config.targets.iter().map(|target| (target.id.clone(), home(&target.connection))).collect();
    Ok(Tariff::new(table, home(&config.source.connection), targets))
}

/// The text of a price table that has no mistakes.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("could not read the price table {name}: {error}")))?;
    config::parse_prices(&text, &name)
        .map_err(|errors| Failure::usage(format!("the price table has errors\n{errors}")))?;
    Ok(text)
}

/// Where a bucket is billed: an endpoint that is not AWS's own is a store for itself.
fn home(connection: &Connection) -> Home {
    match &connection.endpoint {
        Some(endpoint) if !is_aws(endpoint) => Home::Store(endpoint.clone()),
        Some(_) | None => Home::Region(connection.region.clone()),
    }
}

/// Whether an endpoint is one of AWS: a VPC endpoint, FIPS, dual stack.
fn is_aws(endpoint: &str) -> bool {
    let authority = endpoint.split("://").nth(1).unwrap_or(endpoint).split('/').next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|suffix| host.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_told_from_aws() {
        let at = |endpoint: &str| {
            let endpoint = Some(endpoint.to_owned());
            home(&Connection { region: "eu-west-2".to_owned(), endpoint, ..Connection::default() })
        };
        for aws in [
            "https://s3.eu-west-2.amazonaws.com",
            "https://bucket.vpce-1.s3.eu-west-2.vpce.amazonaws.com:443/x",
            "https://s3.dualstack.eu-west-2.api.aws",
        ] {
            assert_eq!(at(aws), Home::Region("eu-west-2".to_owned()), "{aws}");
        }
        for store in ["https://s3.example.com", "http://127.0.0.1:9000", "https://amazonaws.com.example.org"] {
            assert_eq!(at(store), Home::Store(store.to_owned()));
        }
        assert_eq!(home(&Connection { region: "r".to_owned(), ..Connection::default() }), Home::Region("r".to_owned()));
    }
}
