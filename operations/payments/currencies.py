"""Currencies (ISO 4217) and their number of decimal digits: JPY has none, KWD three."""

from decimal import Decimal

_CODES = """
    aed afn all amd aoa ars aud awg azn bam bbd bdt bhd bif bmd bnd bob brl bsd btn bwp byn bzd cad cdf chf clp
    cny cop crc cup cve czk djf dkk dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl htg
    huf idr ils inr iqd irr isk jmd jod jpy kes kgs khr kmf kpw krw kwd kyd kzt lak lbp lkr lrd lsl lyd mad mdl
    mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar
    ron rsd rub rwf sar sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl thb tjs tmt tnd top try ttd twd
    tzs uah ugx usd uyu uzs ves vnd vuv wst xaf xcd xcg xof xpf yer zar zmw zwg"""
_NO_MINOR_UNIT = "bif clp djf gnf isk jpy kmf krw pyg rwf ugx vnd vuv xaf xof xpf"
_THOUSANDTHS = "bhd iqd jod kwd lyd omr tnd"

# Decimal digits by code.
MINOR_DIGITS = {
    **dict.fromkeys(_CODES.split(), 2),
    **dict.fromkeys(_NO_MINOR_UNIT.split(), 0),
    **dict.fromkeys(_THOUSANDTHS.split(), 3),
}


def to_major_units(amount: int, currency: str) -> str | None:
    """Format minor units: 1999 is "19.99" in usd, "1999" in jpy and "1.999" in kwd. None for an unknown currency."""
    digits = MINOR_DIGITS.get(currency)
    return None if digits is None else f"{Decimal(amount).scaleb(-digits):f}"
