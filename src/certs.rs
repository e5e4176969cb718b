//! The certificates of a site, in a folder: an authority, and a certificate for each node, client or
//! observer. What `ekya_actors::Identity::load` reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ekya::write::{write_atomically, write_privately};
use ekya_actors::security::Who;
use ekya_actors::security::authority::Authority;

/// Makes an authority in `folder`: ca.pem, which everybody gets, and ca.key, which nobody gets.
///
/// # Errors
/// When there is one already, or it cannot be written.
pub(crate) fn init(folder: &Path, days: u32) -> Result<()> {
    let [certificate, key] = authority_files(folder);
    for file in [&certificate, &key] {
        if file.exists() {
            bail!(
                "{} is there already: certificates that it has signed would be refused by those that a \
                 new authority signs; choose another --folder",
                file.display()
            );
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let authority = Authority::create(days)?;
    write_privately(&key, authority.key().as_bytes())?;
    write_atomically(&certificate, authority.certificate().as_bytes())?;
    println!("{}: for everybody of the site", certificate.display());
    println!("{}: secret; leave it here, on no node", key.display());
    Ok(())
}

/// Makes a certificate, in place of an older one of that name.
///
/// # Errors
/// When there is no authority in `folder`, or the certificate cannot be written.
pub(crate) fn issue(folder: &Path, who: &Who, days: u32) -> Result<()> {
    let [certificate, key] = authority_files(folder).map(|file| {
        fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}: `ekya certs init` makes it", file.display()))
    });
    let authority = Authority::from_pem(&certificate?, &key?)?;
    let issued = authority.issue(who, days)?;
    let [certificate, key] = [format!("{}.pem", who.name), format!("{}.key", who.name)];
    let [certificate, key] = [certificate, key].map(|file| folder.join(file));
    write_privately(&key, issued.key.as_bytes())?;
    write_atomically(&certificate, issued.certificate.as_bytes())?;
    println!("{}: {who}, for {days} days", certificate.display());
    println!(
        "{}: secret; copy both, with ca.pem, to that machine",
        key.display()
    );
    Ok(())
}

fn authority_files(folder: &Path) -> [PathBuf; 2] {
    ["ca.pem", "ca.key"].map(|file| folder.join(file))
}
