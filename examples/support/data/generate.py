"""Makes the CSV files of this folder: 300 invented customers of Harbor Sync, the same at every run.

    python examples/support/data/generate.py

Addresses are of example.com and example.org, telephone numbers of the ranges kept for fiction. Customers
1042, 1107 and 1233 were charged twice on one day for one plan.
"""

from __future__ import annotations

import csv
import random
from datetime import date, timedelta
from pathlib import Path

SEED = 20261122
TODAY = date(2026, 11, 20)
CUSTOMERS = 300
DOUBLE_CHARGED = {"C-1042": date(2026, 11, 3), "C-1107": date(2026, 11, 12), "C-1233": date(2026, 10, 27)}
PRICES = {
    ("solo", "monthly"): 6,
    ("solo", "annual"): 60,
    ("team", "monthly"): 12,
    ("team", "annual"): 120,
    ("business", "monthly"): 20,
    ("business", "annual"): 200,
}
FIRST_NAMES = (
    "Aisha Anders Beatriz Bruno Chen Clara Daniel Dina Elif Emil Farah Felix Grace Hana Hugo Ines Ivan "
    "Jamal Jana Kofi Lena Liam Maria Mateo Nadia Noah Olga Omar Priya Rosa Samir Sofia Tariq Uma Viktor "
    "Wei Yara Yuki Zoe Zsofia"
)
LAST_NAMES = (
    "Abara Almeida Bauer Berg Costa Dubois Eriksen Fischer Garcia Haddad Ito Jansen Kaya Khan Kowalski "
    "Larsen Lopez Meyer Moreau Nakamura Novak Okafor Osei Patel Petrov Quinn Rossi Sato Silva Singh Smith "
    "Tanaka Toth Usman Varga Walsh Weber Yilmaz Zhang"
)
COUNTRIES = ("US", "US", "US", "GB", "DE", "DE", "FR", "ES", "CA", "AU", "IN", "BR", "NL", "SE", "JP")
Row = dict[str, str]


def month_after(day: date, months: int) -> date:
    """The same day of a later month; days are at most 28, so it always exists."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, day.day)


def make_customer(chance: random.Random, number: int) -> Row:
    """One customer, without regard to the others."""
    key = f"C-{number}"
    first, last = chance.choice(FIRST_NAMES.split()), chance.choice(LAST_NAMES.split())
    plan = chance.choices(("free", "solo", "team", "business"), (20, 40, 27, 13))[0]
    status = (
        chance.choices(("active", "past_due", "cancelled"), (88, 5, 7))[0] if plan != "free" else "active"
    )
    signup = date(2023, 1, 1) + timedelta(days=chance.randrange(1200))
    if key in DOUBLE_CHARGED:
        plan, status = "team" if key == "C-1042" else "solo", "active"
    return {
        "id": key,
        "name": f"{first} {last}",
        "email": f"{first}.{last}.{number}@example.{chance.choice(('com', 'org'))}".lower(),
        "phone": f"+1-{chance.choice((206, 303, 415, 512, 617, 718))}-555-01{chance.randrange(100):02d}",
        "country": chance.choice(COUNTRIES),
        "plan": plan,
        "status": status,
        "signup_date": signup.replace(day=min(signup.day, 28)).isoformat(),
        "card_last4": f"{chance.randrange(10000):04d}" if plan != "free" else "",
        "balance_usd": f"{chance.choice((0, 0, 0, 0, 5, 6, 12, 20)):d}.00",
    }


def make_subscription(chance: random.Random, customer: Row) -> Row:
    """The subscription of a paying customer."""
    plan, key = customer["plan"], customer["id"]
    period = "monthly" if key in DOUBLE_CHARGED else chance.choices(("monthly", "annual"), (75, 25))[0]
    seats = {"solo": 1, "team": chance.randint(3, 15), "business": chance.randint(5, 60)}[plan]
    started = date.fromisoformat(customer["signup_date"])
    if key in DOUBLE_CHARGED:
        started, seats = started.replace(day=DOUBLE_CHARGED[key].day), 5 if plan == "team" else 1
    step, months = (1 if period == "monthly" else 12), 0
    while month_after(started, months) <= TODAY:
        months += step
    return {
        "subscription_id": key.replace("C-", "S-"),
        "customer_id": key,
        "plan": plan,
        "billing_period": period,
        "seats": str(seats),
        "started_on": started.isoformat(),
        "renews_on": "" if customer["status"] == "cancelled" else month_after(started, months).isoformat(),
        "status": customer["status"],
    }


def make_charges(subscription: Row) -> list[Row]:
    """The charges of the last four months (monthly) or two years (annual), newest last."""
    plan, period, key = subscription["plan"], subscription["billing_period"], subscription["customer_id"]
    amount = PRICES[plan, period] * int(subscription["seats"])
    if subscription["status"] == "cancelled":
        return []
    renews = date.fromisoformat(subscription["renews_on"])
    days = [month_after(renews, -back) for back in ((4, 3, 2, 1) if period == "monthly" else (24, 12))]
    charges = []
    for day in days:
        if day < date.fromisoformat(subscription["started_on"]):
            continue
        late = subscription["status"] == "past_due" and day == days[-1]
        again = 2 if DOUBLE_CHARGED.get(key) == day else 1
        charges += [
            {
                "charge_id": "",
                "customer_id": key,
                "charged_on": day.isoformat(),
                "plan": plan,
                "period_start": day.isoformat(),
                "status": "failed" if late else "paid",
                "amount_usd": f"{amount}.00",
            }
        ] * again
    return charges


def write(name: str, rows: list[Row]) -> None:
    """Write `rows` beside this script."""
    with (Path(__file__).parent / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Make all files."""
    chance = random.Random(SEED)  # noqa: S311 - invented data, the same every time
    customers = [make_customer(chance, 1001 + number) for number in range(CUSTOMERS)]
    subscriptions = [make_subscription(chance, row) for row in customers if row["plan"] != "free"]
    charges = [charge for row in subscriptions for charge in make_charges(row)]
    charges.sort(key=lambda row: (row["charged_on"], row["customer_id"]))
    numbered = [{**row, "charge_id": f"CH-{number:05d}"} for number, row in enumerate(charges, 20001)]
    write("customers.csv", customers)
    write("subscriptions.csv", subscriptions)
    write("charges.csv", numbered)


if __name__ == "__main__":
    main()
