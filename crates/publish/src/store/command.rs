//! The store by Nix's own command line, for users who may not open the database.

use std::path::Path;
use std::process::Command;

use boot_model::StorePath;
use nix_format::hash;
use serde_json::Value;

use super::PathInfo;

/// The closure of `roots` as `nix path-info --json` tells it. The error is what Nix said, in one line.
pub(super) fn closure(root: Option<&Path>, roots: &[StorePath]) -> Result<Vec<PathInfo>, String> {
    // 2.34 announces that it will insist on a format one day; 2.8 doesn't know the option.
    let answer = path_info(&[], root, roots)
        .or_else(|said| path_info(&["--json-format", "1"], root, roots).map_err(|_| said))?;
    let json: Value = serde_json::from_slice(&answer).map_err(|error| format!("not JSON: {error}"))?;
    parse(&json)
}

fn path_info(format: &[&str], root: Option<&Path>, roots: &[StorePath]) -> Result<Vec<u8>, String> {
    let mut command = Command::new("nix");
    command.args(["--extra-experimental-features", "nix-command", "path-info", "--json", "--recursive"]).args(format);
    if let Some(root) = root {
        command.arg("--store").arg(format!("local?root={}", root.display()));
    }
    let output = command.args(roots.iter().map(StorePath::as_str)).output().map_err(|error| format!("nix: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nix failed silently").to_owned())
}

/// Nix 2.8 gives an array of objects with their `path`, 2.19 and later an object by path; hashes changed their spelling too.
fn parse(json: &Value) -> Result<Vec<PathInfo>, String> {
    match json {
        Value::Array(infos) => {
            infos.iter().map(|info| parse_info(info["path"].as_str().unwrap_or_default(), info)).collect()
        }
        Value::Object(infos) => infos.iter().map(|(path, info)| parse_info(path, info)).collect(),
        _ => Err("its JSON is neither a list nor an object".to_owned()),
    }
}

fn parse_info(path: &str, info: &Value) -> Result<PathInfo, String> {
    let strings = |key: &str| info[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    let store_path = |text: &str| text.parse::<StorePath>().map_err(|error| error.to_string());
    let mut references = strings("references").map(store_path).collect::<Result<Vec<_>, _>>()?;
    references.sort();
    Ok(PathInfo {
        path: store_path(path)?,
        nar_hash: hash::from_nix(info["narHash"].as_str().unwrap_or_default())
            .map_err(|_| format!("{path} is not valid"))?,
        nar_size: info["narSize"].as_u64().ok_or_else(|| format!("{path} has no NAR size"))?,
        references,
        deriver: info["deriver"].as_str().and_then(|deriver| deriver.parse().ok()),
        signatures: strings("signatures").flat_map(str::parse).collect(),
        content_address: info["ca"].as_str().filter(|address| !address.is_empty()).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000001-a";

    #[test]
    fn both_shapes_of_the_answer() {
        let of_2_8 = serde_json::json!([{
            "path": A, "narHash": "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", "narSize": 7,
            "references": [A], "valid": true
        }]);
        let of_2_26 = serde_json::json!({ A: {
            "narHash": "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "narSize": 7,
            "references": [A], "deriver": null, "ca": null, "signatures": []
        }});
        assert_eq!(parse(&of_2_8), parse(&of_2_26));
        assert_eq!(parse(&of_2_8).unwrap()[0].references[0].as_str(), A);
        let invalid = serde_json::json!([{ "path": A, "valid": false }]);
        assert_eq!(parse(&invalid), Err(format!("{A} is not valid")));
    }
}
