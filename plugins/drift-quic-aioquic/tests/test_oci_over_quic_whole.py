"""All tests of the distribution API, with every request over QUIC."""

import pytest

from tests.oci import (
    test_blobs,
    test_errors,
    test_listing,
    test_manifests,
    test_referrers,
    test_uploads,
)

from .oci_over_quic import collect

pytestmark = pytest.mark.soak

globals().update(collect(test_blobs, test_errors, test_listing, test_manifests, test_referrers, test_uploads))
