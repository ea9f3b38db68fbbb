//! What `daybook credential create` makes and what is signed with it, as OpenSSL and PyJWT see it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use daybook::config::Assertion;
use daybook::entra::assertion::Signer;
use daybook::entra::credential::{self, Made};
use daybook::observe;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use uuid::Uuid;

const AUDIENCE: &str =
    "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token";
const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

fn openssl(dir: &Path, arguments: &str) -> String {
    let output = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn python(certificate: &Path, assertion: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/entra.py");
    // The one that Debian's modules are for.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(script).arg(certificate).args([AUDIENCE, CLIENT]);
    let mut child =
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(assertion.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn openssl_and_pyjwt_take_what_is_signed_with_a_pair_that_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let made: Made = credential::create(dir.path(), "pair", 30, observe::now()).unwrap();
    openssl(dir.path(), "x509 -in pair.crt -pubkey -noout -out public.pem");
    openssl(dir.path(), "verify -CAfile pair.crt pair.crt");
    openssl(dir.path(), "x509 -in pair.crt -checkend 2505600 -noout");
    let text = openssl(dir.path(), "x509 -in pair.crt -noout -text");
    assert!(text.contains("(3072 bit)") && text.contains("CN = pair"), "{text}");
    for (hash, expect) in [("sha1", made.thumbprints.sha1_hex()), ("sha256", made.thumbprints.sha256_hex())] {
        let said = openssl(dir.path(), &format!("x509 -in pair.crt -noout -fingerprint -{hash}"));
        assert!(said.replace(':', "").trim_end().ends_with(&expect), "{said} {expect}");
    }
    for (assertion, options) in [
        (
            Assertion::Ps256,
            " -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -sigopt rsa_mgf1_md:sha256",
        ),
        (Assertion::Rs256, ""),
    ] {
        let signer = Signer::load(&made.certificate, &made.private_key, assertion).unwrap();
        let statement = signer.statement(AUDIENCE, CLIENT, observe::now(), Uuid::new_v4()).unwrap();
        let (signed, signature) = statement.rsplit_once('.').unwrap();
        fs::write(dir.path().join("signed"), signed).unwrap();
        fs::write(dir.path().join("signature"), BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let command = format!("dgst -sha256 -verify public.pem -signature signature{options} signed");
        assert_eq!(openssl(dir.path(), &command), "Verified OK\n");
        let said = python(&made.certificate, &statement);
        println!("{said}");
    }
}
