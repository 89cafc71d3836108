"""Labelled uint8 images from publishers' files, photos and arrays, split and ready for a device."""

from budgetnet.data.arrays import arrays as arrays
from budgetnet.data.arrays import digits as digits
from budgetnet.data.choose import HeldOut as HeldOut
from budgetnet.data.choose import balanced as balanced
from budgetnet.data.choose import left_over as left_over
from budgetnet.data.choose import split as split
from budgetnet.data.choose import stratified as stratified
from budgetnet.data.cifar10 import cifar10 as cifar10
from budgetnet.data.disk import OnDisk as OnDisk
from budgetnet.data.duplicates import Duplicate as Duplicate
from budgetnet.data.error import DataError as DataError
from budgetnet.data.error import Unavailable as Unavailable
from budgetnet.data.folder import folder as folder
from budgetnet.data.inspect import Inspection as Inspection
from budgetnet.data.inspect import inspect as inspect
from budgetnet.data.kinds import UNREADABLE as UNREADABLE
from budgetnet.data.kinds import Finding as Finding
from budgetnet.data.kinds import policies as policies
from budgetnet.data.kinds import sentences as sentences
from budgetnet.data.source import Source as Source
from budgetnet.data.splits import Data as Data
from budgetnet.data.splits import Split as Split
from budgetnet.data.stl10 import stl10 as stl10
from budgetnet.data.tiny_imagenet import tiny_imagenet as tiny_imagenet
