"""Pictures: charts and matrices from plain values, drawn by matplotlib (the one door to it) or in pages."""

from budgetnet.pictures.chart import COLOURS as COLOURS
from budgetnet.pictures.chart import Chart as Chart
from budgetnet.pictures.chart import Line as Line
from budgetnet.pictures.chart import Sketch as Sketch
from budgetnet.pictures.chart import ticks as ticks
from budgetnet.pictures.figure import NoPlot as NoPlot
from budgetnet.pictures.figure import blank as blank
from budgetnet.pictures.figure import charts_figure as charts_figure
from budgetnet.pictures.figure import confusion_figure as confusion_figure
from budgetnet.pictures.figure import encoded as encoded
from budgetnet.pictures.markup import NoTemplates as NoTemplates
from budgetnet.pictures.markup import rendered as rendered
from budgetnet.pictures.matrix import FEW as FEW
from budgetnet.pictures.matrix import cells as cells
