//! Which addresses are asked: one host, and where Graph says the next page is. Pure.

use super::shape::{GROUP_FIELDS, USER_FIELDS};

/// Entries of a page where only ids are asked for.
const IDS_A_PAGE: u32 = 999;
/// Longest link to a next page, in octets. Those of Graph are some hundred.
const LINK_OCTETS_MAX: usize = 16 * 1024;

/// Makes the links of one cloud.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) host: &'static str,
}

impl Links {
    /// The first page of all users.
    pub(super) fn users(self, page_entries: u32) -> String {
        format!("https://{}/v1.0/users?$select={USER_FIELDS}&$top={page_entries}", self.host)
    }

    /// The first page of all groups that have a mailbox of their own.
    pub(super) fn unified_groups(self, page_entries: u32) -> String {
        format!(
            "https://{}/v1.0/groups?$filter=groupTypes/any(c:c%20eq%20%27Unified%27)&$select={GROUP_FIELDS}&$top={page_entries}",
            self.host
        )
    }

    /// One group. `id` is a GUID.
    pub(super) fn group(self, id: &str) -> String {
        format!("https://{}/v1.0/groups/{id}?$select={GROUP_FIELDS}", self.host)
    }

    /// The first page of the users in a group, also by way of groups in it. The cast to users needs `$count`, and the header for
    /// eventual consistency.
    pub(super) fn members(self, id: &str) -> String {
        format!(
            "https://{}/v1.0/groups/{id}/transitiveMembers/microsoft.graph.user?$select=id&$count=true&$top={IDS_A_PAGE}",
            self.host
        )
    }

    /// Whether a link to a next page may be followed with the token: to this host, encrypted, and nowhere else.
    pub(super) fn is_ours(self, link: &str) -> bool {
        let Some((scheme, rest)) = link.split_once("://") else { return false };
        let Some((authority, path)) = rest.split_once('/') else { return false };
        scheme.eq_ignore_ascii_case("https")
            && authority.eq_ignore_ascii_case(self.host)
            && link.len() <= LINK_OCTETS_MAX
            && path.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'#')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cloud;

    #[test]
    fn only_the_host_itself_is_followed_and_only_encrypted() {
        let links = Links { host: "graph.microsoft.com" };
        for ours in [
            "https://graph.microsoft.com/v1.0/users?$skiptoken=RFNwdA%27",
            "HTTPS://Graph.Microsoft.com/v1.0/users",
        ] {
            assert!(links.is_ours(ours), "{ours}");
        }
        for other in [
            "http://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.us/v1.0/users",
            "https://graph.microsoft.com.evil.example/v1.0/users",
            "https://graph.microsoft.com@evil.example/v1.0/users",
            "https://graph.microsoft.com:8443/v1.0/users",
            "https://graph.microsoft.com\\@evil.example/v1.0/users",
            "https://evil.example/https://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com/v1.0/users\r\nHost: evil.example",
            "https://graph.microsoft.com",
            "/v1.0/users?$skiptoken=x",
            "",
        ] {
            assert!(!links.is_ours(other), "{other}");
        }
        assert!(!links.is_ours(&format!("https://graph.microsoft.com/{}", "x".repeat(LINK_OCTETS_MAX))));
    }

    #[test]
    fn every_cloud_is_asked_at_its_own_host() {
        let hosts = Cloud::ALL.map(|cloud| {
            let link = Links { host: cloud.graph_host() }.users(999);
            link.split("/v1.0/users?$select=id,").next().map(str::to_owned)
        });
        let expect = [
            "https://graph.microsoft.com",
            "https://graph.microsoft.us",
            "https://dod-graph.microsoft.us",
            "https://microsoftgraph.chinacloudapi.cn",
        ];
        assert_eq!(hosts, expect.map(|host| Some(host.to_owned())));
    }
}
