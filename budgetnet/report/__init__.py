"""Report: what there is to look at of recipes and runs: plots, grids of images, tables over resolutions."""

from budgetnet.report.curves import save_curves as save_curves
from budgetnet.report.png import NoPlot as NoPlot
from budgetnet.report.png import blank as blank
from budgetnet.report.png import save_png as save_png
from budgetnet.report.png import views as views
from budgetnet.report.png import write as write
from budgetnet.report.resolutions import PLOT as PLOT
from budgetnet.report.resolutions import AtResolution as AtResolution
from budgetnet.report.resolutions import Resolutions as Resolutions
from budgetnet.report.resolutions import by_resolution as by_resolution
from budgetnet.report.resolutions import save_plot as save_plot
from budgetnet.report.resolutions import trained_at as trained_at
from budgetnet.report.schedules import curve as curve
from budgetnet.report.schedules import plot as plot
from budgetnet.report.schedules import save_schedules as save_schedules
