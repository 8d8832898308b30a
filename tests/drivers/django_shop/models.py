"""A shop: customers, products, orders."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=100, unique=True)


class Product(models.Model):
    """A column of each kind."""

    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=30, decimal_places=10)
    stock = models.IntegerField(default=0)
    since = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    lasts = models.DurationField(null=True)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    details = models.JSONField(default=dict)
    picture = models.BinaryField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(stock__gte=0), name="in_stock"),
        ]
        indexes = [GinIndex(fields=["details"], name="by_details")]


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    products = models.ManyToManyField(Product, related_name="orders")
    placed = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["placed"], name="by_placed")]
