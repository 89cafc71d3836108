"""Views of stored images: what happens to a batch of uint8 images between the data set and the model."""

from budgetnet.augment.auto import RandAugment as RandAugment
from budgetnet.augment.auto import TrivialAugmentWide as TrivialAugmentWide
from budgetnet.augment.colour import Colour as Colour
from budgetnet.augment.colour import Grayscale as Grayscale
from budgetnet.augment.colour import Jitter as Jitter
from budgetnet.augment.erase import Erase as Erase
from budgetnet.augment.looks import looks as looks
from budgetnet.augment.mirror import AlternatingFlip as AlternatingFlip
from budgetnet.augment.mirror import Mirror as Mirror
from budgetnet.augment.mix import Cutmix as Cutmix
from budgetnet.augment.mix import Mixup as Mixup
from budgetnet.augment.place import Place as Place
from budgetnet.augment.place import Placed as Placed
from budgetnet.augment.place import at_place as at_place
from budgetnet.augment.steps import listed as listed
from budgetnet.augment.views import Act as Act
from budgetnet.augment.views import Step as Step
from budgetnet.augment.views import test_view as test_view
from budgetnet.augment.views import view as view
from budgetnet.augment.warp import CenterCrop as CenterCrop
from budgetnet.augment.warp import Crop as Crop
from budgetnet.augment.warp import Flip as Flip
from budgetnet.augment.warp import Rotate as Rotate
from budgetnet.augment.warp import Shift as Shift
from budgetnet.augment.warp import Translate as Translate
from budgetnet.augment.warp import Warp as Warp
