"""Page: the report of a run: one file of HTML that needs nothing else, and how its pictures are made."""

from budgetnet.page.content import PAGE as PAGE
from budgetnet.page.content import Extra as Extra
from budgetnet.page.content import Measured as Measured
from budgetnet.page.content import TrainingViews as TrainingViews
from budgetnet.page.content import chart as chart
from budgetnet.page.content import page as page
from budgetnet.page.content import phase_views as phase_views
from budgetnet.page.content import several as several
from budgetnet.page.images import make_folder as make_folder
from budgetnet.page.images import save_png as save_png
from budgetnet.page.images import views as views
from budgetnet.page.images import write_figure as write_figure
from budgetnet.page.images import write_file as write_file
