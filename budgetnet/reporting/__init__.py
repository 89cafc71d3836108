"""Reporting: what there is to look at of recipes and runs: reports, plots, tables over resolutions."""

from budgetnet.page import save_png as save_png
from budgetnet.page import views as views
from budgetnet.page import write_figure as write_figure
from budgetnet.pictures import NoPlot as NoPlot
from budgetnet.pictures import blank as blank
from budgetnet.reporting.curves import save_curves as save_curves
from budgetnet.reporting.pages import Report as Report
from budgetnet.reporting.pages import report as report
from budgetnet.reporting.resolutions import PLOT as PLOT
from budgetnet.reporting.resolutions import AtResolution as AtResolution
from budgetnet.reporting.resolutions import Resolutions as Resolutions
from budgetnet.reporting.resolutions import by_resolution as by_resolution
from budgetnet.reporting.resolutions import save_plot as save_plot
from budgetnet.reporting.resolutions import trained_at as trained_at
from budgetnet.reporting.schedules import curve as curve
from budgetnet.reporting.schedules import plot as plot
from budgetnet.reporting.schedules import save_schedules as save_schedules
