"""Downloads ISIC 2019, or a small labelled sample of the ISIC Archive.

The folder can then be opened as a data set. A file that is being fetched or unpacked is called
NAME.part; it gets its final name only when it is complete.

    client      one file from an HTTP server, resumed after an interruption
    checksums   SHA256SUMS, and the hashes of a file
    disk        check of the free space
    unpack      an untrusted zip, into one folder
    official    the four files of ISIC 2019, from ISIC or from a mirror
    sample      a few images a class, through the public API of the ISIC Archive
"""

from cadlib.data.download.client import Client, Patience, Watch, check_address
from cadlib.data.download.official import OFFICIAL, OfficialFile, download_official
from cadlib.data.download.sample import download_sample

__all__ = [
    "OFFICIAL",
    "Client",
    "OfficialFile",
    "Patience",
    "Watch",
    "check_address",
    "download_official",
    "download_sample",
]
