"""The package's metadata.  In: the version, read as text.  Out: what installers want to know.

Never: an import of geofetch; what it needs is not installed yet when this file runs.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

EXTRAS = {
    "s3": ["boto3>=1.34"],
    "fsspec": ["fsspec>=2024.6"],
    "postgres": ["psycopg[binary]>=3.2"],
    "mysql": ["PyMySQL>=1.1"],
    "socks": ["PySocks>=1.7"],
    "profiles": ["cryptography>=42", "tomlkit>=0.13"],
    "keyring": ["keyring>=25"],
    "metrics": ["prometheus-client>=0.20"],
}


def version() -> str:
    """The text behind ``__version__`` in the package's door."""
    door = (HERE / "geofetch" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r"""^__version__(?:\s*:\s*[\w.\[\]]+)?\s*=\s*["']([^"']+)["']""", door, re.MULTILINE)
    if found is None:
        raise SystemExit('geofetch/__init__.py holds no line __version__ = "…"')
    return found[1]


def introduction() -> str:
    """The README, if this tree has it."""
    readme = HERE / "README.rst"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="geofetch",
    version=version(),
    description="Fetches many files at once, proves them, stores them, and remembers each as a unit",
    long_description=introduction(),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["download", "mirror", "requests", "gevent", "checksum", "repository"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: System :: Archiving :: Mirroring",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["geofetch", "geofetch.*"]),
    package_data={"geofetch": ["py.typed"], "geofetch.records": ["unit_file.schema.json"]},
    zip_safe=False,
    install_requires=[
        # gevent 25.4.1 and urllib3 2.3 together: older ones can deadlock when a pool is collected (gevent issue 1957).
        "gevent>=25.4.1",
        "requests>=2.32",
        "urllib3>=2.3,<3",
        "httptools>=0.6.4",
        "peewee>=4.5",
        "click>=8.1.7",
        "rich>=13.7",
        "platformdirs>=4.2",
    ],
    extras_require={**EXTRAS, "all": sorted(one for wanted in EXTRAS.values() for one in wanted)},
    entry_points={
        "console_scripts": ["geofetch = geofetch.cli:main"],
        # The formats of manifests that geofetch reads; a plugin adds its own to this group.
        "geofetch.manifests": [
            "urls = geofetch.manifest.urls:Urls",
            "checksums = geofetch.manifest.checksums:Checksums",
            "jsonl = geofetch.manifest.jsonl:JsonLines",
            "pulp = geofetch.manifest.pulp:PulpManifest",
        ],
    },
)
