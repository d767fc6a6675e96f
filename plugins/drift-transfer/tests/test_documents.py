"""What manifests and layouts say of themselves, in the forms that clients write."""

import pytest
from drift_transfer.documents import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, is_schema_1, media_type_of
from drift_transfer.layout import tag_of


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (f'{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{}},"layers":[]}}', DOCKER_MANIFEST),
        ('{"schemaVersion":2,"config":{},"layers":[]}', OCI_MANIFEST),
        ('{"schemaVersion":2,"manifests":[]}', OCI_INDEX),
        ("not JSON", None),
        ("[]", None),
        ('{"mediaType":7}', None),
        ("\ud800", None),
    ],
)
def test_the_media_type_is_what_is_stated_or_what_the_form_says(content: str, media_type: str | None) -> None:
    assert media_type_of(content.encode(errors="surrogatepass")) == media_type


def test_the_first_schema_is_known() -> None:
    assert is_schema_1(b'{"schemaVersion":1,"fsLayers":[]}')
    assert not is_schema_1(b'{"schemaVersion":2}')
    assert not is_schema_1(b"not JSON")


@pytest.mark.parametrize(
    ("name", "tag"), [("v1", "v1"), ("team/app:v1", "v1"), ("localhost:5000/team/app:v1", "v1"), ("1.0", "1.0")]
)
def test_a_tag_is_the_end_of_a_reference(name: str, tag: str) -> None:
    assert tag_of(name) == tag
