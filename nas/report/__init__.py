"""The report of a run: one HTML file that needs nothing but a browser."""

from nas.report.data import ReportData as ReportData
from nas.report.page import write_report as write_report
